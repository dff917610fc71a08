"""A table of 1,281,167 rows: writing and reading it, a choice from it, and its page; seconds and peak memory.

`python -m benchmarks.rows write|read FILE` is what the processes that are measured do.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.children import EASYCORESET, spend
from easycoreset.tables import Scores

ROWS = 1_281_167
CLASSES = 1000
COLUMNS = (
    "aign",
    "loss",
    "el2n",
    "grand",
    "forgetting",
    "aum",
    "uncertainty",
    "entropy",
    "least_confidence",
    "prob_gap",
)
MB = 4096


def make(rows: int) -> Scores:
    """Random hardness, with names as ImageNet's files have them."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, CLASSES, rows))
    names = [f"n{number:08d}" for number in range(CLASSES)]
    ids = [f"{names[label]}/{names[label]}_{row}.JPEG" for row, label in enumerate(labels.tolist())]
    columns = {name: rng.random(rows, dtype=np.float32) for name in COLUMNS}
    return Scores(
        sample_ids=ids,
        labels=labels,
        class_names=names,
        n_obs=np.full(rows, 15, np.int32),
        columns=columns,
        provenance={"fingerprint": "", "split": "train"},
    )


def run(rows: int = ROWS) -> list[dict]:
    """Each step in a process of its own, once; the page is without images, for there is no data set."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "scores"
        file = folder / "scores.parquet"
        own = (sys.executable, "-m", "benchmarks.rows")
        steps = {
            "making and writing scores.parquet": (30, [*own, "write", file, rows]),
            "reading it": (30, [*own, "read", file]),
            "select": (
                30,
                [
                    *EASYCORESET,
                    "select",
                    "--scores",
                    file,
                    "--fraction",
                    0.5,
                    "--out",
                    Path(temporary) / "coreset.parquet",
                ],
            ),
            "report": (60, [*EASYCORESET, "report", "--out", folder]),
        }
        for name, (seconds, command) in steps.items():
            cost = spend(command)
            found.append({"what": f"{name}, {rows:,} rows, seconds", "budget": seconds, "measured": cost.seconds})
            found.append({"what": f"{name}, {rows:,} rows, MB at its peak", "budget": MB, "measured": cost.mb})
    return found


def main(step: str, file: str, rows: str = "0") -> None:
    """Write the table, or read it."""
    if step == "write":
        make(int(rows)).write(file)
    else:
        print(Scores.read(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
