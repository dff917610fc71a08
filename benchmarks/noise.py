"""Labels flipped at random, and how well each hardness finds them, beside cleanlab.

`python -m benchmarks.noise DATA RESULT.json [EPOCHS [SHARE]]`: DATA as `--data` spells it. A share of the training
labels (10% unless said) becomes another class, uniformly; the run is scored on them, and audited with the flips known.
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.__main__ import describe
from easycoreset import audit, console, score
from easycoreset.data import data_name, open_source

RUN = Path("runs/noise")


def main() -> None:
    """Flip, score, audit, print and write."""
    console.configure_output()
    data = sys.argv[1]
    result = Path(sys.argv[2])
    epochs = int((sys.argv[3:] or ["15"])[0])
    share = float((sys.argv[4:] or ["0.1"])[0])
    source = open_source(data)
    split = source.splits["train"]
    test = source.splits["test"]
    rng = np.random.default_rng(0)
    y = split.labels.copy()
    flipped = np.sort(rng.permutation(len(y))[: round(share * len(y))])
    y[flipped] = (y[flipped] + rng.integers(1, len(source.class_names), len(flipped))) % len(source.class_names)
    RUN.mkdir(parents=True, exist_ok=True)
    parts = {"x": split.images.pixels.numpy(), "y": y, "x_test": test.images.pixels.numpy(), "y_test": test.labels}
    np.savez(RUN / "noisy.npz", **parts)
    (RUN / "flipped.txt").write_text("".join(f"{row}\n" for row in flipped))
    common = {"data": str(RUN / "noisy.npz")}
    score(**common, model="thin-resnet", epochs=epochs, augment="crop-flip", keep_checkpoints=False, out=RUN / "scores")
    table = audit(**common, scores=RUN / "scores", wrong=RUN / "flipped.txt", out=RUN / "audit").table
    summary = json.loads((RUN / "audit" / "run.json").read_text())["summary"]
    suspect = np.flatnonzero(table["likely_mislabelled"].to_numpy(zero_copy_only=False))
    found = np.isin(suspect, flipped).sum()
    likely = {"count": len(suspect), "precision": float(found / len(suspect)), "recall": float(found / len(flipped))}
    command = f"python -m benchmarks.noise {data_name(data)}:DIR {result} {epochs} {share}"
    facts = {"seed": 0, "data": data_name(data), "model": "thin-resnet", "epochs": epochs, "samples": len(y)}
    columns = {"flipped": len(flipped), "columns": summary["noise"]["columns"], "likely_mislabelled": likely}
    record = {**describe(), "command": command, **facts, **columns}
    for name, cuts in record["columns"].items():
        print(f"{name:18} " + "  ".join(f"precision at {cut['k']}: {cut['precision']:.3f}" for cut in cuts))
    print(record["likely_mislabelled"])
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
