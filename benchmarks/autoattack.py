"""AutoAttack here, where broken images leave APGD's batches, and the package's, on the same batches.

`python -m benchmarks.autoattack RESULT.json DATA EPS IMAGES WEIGHTS`: EPS as `--eps` spells it, WEIGHTS a folder that
`train` wrote; a row is added to what the result holds. Both attack each batch of 128 by itself, one after the other,
with the package's standard settings and the same seed, on one thread. The package is given contiguous images and
gradients, which it needs.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack as Package
from torch import Tensor, nn

from benchmarks.__main__ import describe
from easycoreset import load_model, open_source
from easycoreset.attacks.apgd import ContiguousGradient
from easycoreset.attacks.autoattack import AutoAttack
from easycoreset.conversion import parse_number
from easycoreset.data import data_name
from easycoreset.records import read_record

BATCH = 128


def is_right(model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """[B], whether the images are predicted as they are labelled."""
    with torch.no_grad():
        return (model(x).argmax(1) == y).numpy()


def measure(model: nn.Module, data: str, eps: float, images: int) -> dict:
    """Seconds of both and how many images they judge alike."""
    split = open_source(data).splits["test"]
    rows = np.sort(np.random.default_rng(0).permutation(len(split))[:images])
    seconds = {"ours": 0.0, "package": 0.0}
    right: dict[str, list[np.ndarray]] = {"clean": [], "ours": [], "package": []}
    for batch in split.batches(rows, BATCH):
        theirs = Package(ContiguousGradient(model), norm="Linf", eps=eps, seed=0, device="cpu")
        attacks = {
            "ours": lambda x, y: AutoAttack(eps=eps)(model, x, y),
            "package": lambda x, y, theirs=theirs: theirs.run_standard_evaluation(x, y, batch_size=BATCH)[0],
        }
        right["clean"].append(is_right(model, batch.x, batch.y))
        for name, attack in attacks.items():
            start = time.perf_counter()
            x_adv = attack(batch.x.contiguous(), batch.y)
            seconds[name] += time.perf_counter() - start
            right[name].append(is_right(model, x_adv, batch.y) & right["clean"][-1])
        print(f"{len(batch.x)} images: {seconds['ours'] / seconds['package']:.3f} of the time", flush=True)
    accuracy = {name: np.concatenate(parts) for name, parts in right.items()}
    return {
        "accuracy": {name: float(values.mean()) for name, values in accuracy.items()},
        "other_outcomes": int((accuracy["ours"] != accuracy["package"]).sum()),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "of_the_packages_time": round(seconds["ours"] / seconds["package"], 3),
    }


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    result, data, eps, images, weights = sys.argv[1:]
    facts = read_record(Path(weights) / "run.json")["summary"]
    trained = {name: facts[name] for name in ("objective", "updates", "samples")}
    row = {
        "eps": eps,
        "images": int(images),
        **measure(load_model(weights).eval(), data, parse_number(eps), int(images)),
    }
    print(json.dumps(row))
    known = json.loads(Path(result).read_text())["rows"] if Path(result).exists() else []
    command = f"python -m benchmarks.autoattack {result} {data_name(data)}:DIR {eps} {images} WEIGHTS"
    rows = [*known, {"trained": trained, **row}]
    Path(result).write_text(json.dumps({**describe(), "command": command, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
