"""The audit of a folder of photographs whose faults are known, by a judge of its own and by one that was pretrained.

`python -m benchmarks.photo_folder cifar10:DIR RESULT.json [FOLDERS]`: 1,890 photographs of five uneven classes of
CIFAR-10 with 5% wrong labels, copies, near copies, leaks and broken files (`tests/support/photo_folder.py`), drawn anew
for each folder. The pretrained judge is a thin ResNet of the other five classes, 30 epochs.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tests.support.photo_folder import CLASSES, PhotoFolder, make_photo_folder

from benchmarks.__main__ import describe
from easycoreset import Audit, audit, open_source, train
from easycoreset.data import Source

SIDE = 32
FIRST = 2  # folder that is drawn; the judge's epochs and repeats were chosen on folders 0 and 1
EPOCHS = 30  # of the pretrained judge


def pretrain(cifar: Source, out: Path) -> None:
    """Train a judge on the classes that the folder lacks."""
    others = [k for k in range(10) if k not in CLASSES]
    parts = []
    for split in (cifar.splits["train"], cifar.splits["test"]):
        rows = np.flatnonzero(np.isin(split.labels, others))
        parts.append((split.images.pixels.numpy()[rows], np.searchsorted(others, split.labels[rows])))
    train(data=tuple(parts), model="thin-resnet", epochs=EPOCHS, augment="crop-flip", out=out)


def measure(found: Audit, faults: PhotoFolder, source: Source) -> dict:
    """What was found of what is there."""
    issues = found.issues.to_pylist()
    ids = {part: split.sample_ids for part, split in source.splits.items()}
    called = [line["sample_id"] for line in issues if line["kind"] == "label" and line["part"] == "train"]
    right = [name for name in called if name in faults.wrong]
    suggested = {line["sample_id"]: line["suggestion"] for line in issues if line["kind"] == "label"}
    pairs = {
        frozenset((line["sample_id"], ids[line["other_part"]][line["other_index"]])): line["kind"]
        for line in issues
        if line["other_part"] is not None
    }
    judge = found.summary["judge"]
    made = (faults.copies, faults.near_copies, faults.leaks)
    planted = {frozenset(pair) for some in made for pair in some.items()}
    return {
        "judge": {name: judge[name] for name in ("epochs", "repeats", "accuracy", "accuracy_per_class", "scale")},
        "labels": {
            "wrong": len(faults.wrong),
            "called": len(called),
            "expected_precision": judge["expected_precision"],
            "precision": len(right) / max(len(called), 1),
            "recall": len(right) / len(faults.wrong),
            "right_class_suggested": sum(suggested[name] == faults.wrong[name] for name in right),
        },
        "copies": [sum(frozenset(pair) in pairs for pair in faults.copies.items()), len(faults.copies)],
        "near_copies": [sum(frozenset(pair) in pairs for pair in faults.near_copies.items()), len(faults.near_copies)],
        "leaks": [sum(pairs.get(frozenset(pair)) == "leak" for pair in faults.leaks.items()), len(faults.leaks)],
        "other_pairs": len(pairs.keys() - planted),
        "unreadable": [len(source.unreadable), len(faults.broken)],
        "unusual": {k: sum(v.values()) for k, v in found.summary["issues"].items() if k in UNUSUAL},
    }


UNUSUAL = ("odd one out", "blurred", "dark", "bright", "low information", "odd size")


def main() -> None:
    """Make the folders, audit, print and write."""
    torch.set_num_threads(1)
    data, result = sys.argv[1], Path(sys.argv[2])
    folders = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    cifar = open_source(data)
    record = {
        **describe(),
        "command": f"python -m benchmarks.photo_folder cifar10:DIR {result} {folders}",
        "pretrained": f"thin-resnet, {EPOCHS} epochs on the other five classes of CIFAR-10",
        "folders": [],
    }
    with tempfile.TemporaryDirectory() as place:
        pretrain(cifar, Path(place) / "judge")
        for seed in range(FIRST, FIRST + folders):
            root = Path(place) / f"photos{seed}"
            faults = make_photo_folder(root, cifar, seed)
            source = open_source(str(root), image_size=SIDE, skip_unreadable=True)
            for name, init in (("own", None), ("pretrained", str(Path(place) / "judge"))):
                start = time.monotonic()
                out = Path(place) / f"audit-{seed}-{name}"
                found = audit(data=str(root), image_size=SIDE, init=init, seed=seed, out=out)
                record["folders"].append({"seed": seed, "judged_by": name, **measure(found, faults, source)})
                print(f"{time.monotonic() - start:.0f} s", json.dumps(record["folders"][-1]), flush=True)
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
