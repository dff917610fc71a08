"""How strong and how dear PGD-20, APGD and AutoAttack are on one trained model, on the same test images.

`python -m benchmarks.attacks RESULT.json DATA EPS IMAGES WEIGHTS`: EPS as `--eps` spells it, WEIGHTS a folder that
`train` wrote (of a comparison `steps/train-KEY/`); a row is added to what the result holds. Seconds are of the
attacks' calls alone, one thread.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.__main__ import describe
from easycoreset import load_model, open_source
from easycoreset.attacks import load_attack
from easycoreset.conversion import parse_number
from easycoreset.data import data_name
from easycoreset.models.modes import frozen
from easycoreset.records import read_record

ATTACKS = ("pgd", "apgd", "autoattack")
BATCH = 128


def measure(weights: Path, data: str, eps: float, images: int) -> dict:
    """Accuracy and seconds under each attack; the images are those of `evaluate --limit` with seed 0."""
    model = load_model(weights)
    split = open_source(data).splits["test"]
    rows = np.sort(np.random.default_rng(0).permutation(len(split))[:images])
    found = {}
    for name in ("clean", *ATTACKS):
        right = np.zeros(0, bool)
        seconds = 0.0
        for batch in split.batches(rows, BATCH):
            start = time.perf_counter()
            x = (
                batch.x
                if name == "clean"
                else load_attack(name, eps=eps, norm="linf", seed=0)[1](model, batch.x, batch.y, batch.index)
            )
            seconds += time.perf_counter() - start
            with frozen(model), torch.no_grad():
                standing = (model(x).argmax(1) == batch.y) & (model(batch.x).argmax(1) == batch.y)
            right = np.r_[right, standing.numpy()]
        found[name] = {"accuracy": float(right.mean()), "seconds": round(seconds, 1), "right": right}
    for name in ATTACKS:
        found[name]["too_high_by"] = float(np.mean(found[name]["right"] & ~found["autoattack"]["right"]))
        found[name]["of_autoattacks_time"] = round(found[name]["seconds"] / found["autoattack"]["seconds"], 3)
    record = read_record(weights / "run.json")
    facts = record["summary"]
    trained = {
        "by": (record.get("command_line") or "").replace(data.partition(":")[2], "DIR"),
        "commit": record["versions"].get("commit"),
    }
    kept = {name: {key: value for key, value in line.items() if key != "right"} for name, line in found.items()}
    told = {name: facts[name] for name in ("objective", "updates", "samples")}
    return {"trained": trained, **told, "eps": eps, "images": images, "attacks": kept}


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    result, data, eps, images, weights = sys.argv[1:]
    row = measure(Path(weights), data, parse_number(eps), int(images))
    print(json.dumps(row))
    known = json.loads(Path(result).read_text())["rows"] if Path(result).exists() else []
    command = f"python -m benchmarks.attacks {result} {data_name(data)}:DIR {eps} {images} WEIGHTS"
    Path(result).write_text(json.dumps({**describe(), "command": command, "rows": [*known, row]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
