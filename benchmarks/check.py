"""Whether the committed results still hold.

`python -m benchmarks.check [NAME ...]` does the cheapest part of every result of this CPU again (`make results-check`).
Results whose parts are no cheaper than the whole run again only when named. `EASYCORESET_DATA` is the folder that holds
cifar-10-batches-py; without it the results on CIFAR-10 are skipped.
"""

import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fuzz.cases import WRONG, run_again

from benchmarks import augmentation, coverage, growth
from benchmarks.children import spend
from benchmarks.figures import Verdict, beside
from benchmarks.grids import check_grid
from benchmarks.selectors import overlap, run_alone
from easycoreset.data import open_source
from easycoreset.data.unscored import unscored_table
from easycoreset.selection import load_selector
from easycoreset.tables import kept_count

FOLDER = Path("results")
SLOWER = 3.0  # times the recorded seconds, on a machine that others use
MORE = 1.25  # times the recorded memory
NO_DATA = Verdict(None, "EASYCORESET_DATA is not set; needed for cifar10")


def check_selection(file: Path, root: Path | None) -> Verdict:
    """EasyCore at 1.28 million made-up rows, and how much two random choices of CIFAR-10 have in common."""
    record = json.loads(file.read_text())
    recorded = [row for row in record["at_1.28_million_rows"] if row["method"] == "easycore"]
    for old, new in zip(recorded, run_alone("easycore", None), strict=True):
        if old["kept"] != new["kept"]:
            return Verdict(False, f"easycore keeps {new['kept']} of {old['rows']}; recorded is {old['kept']}")
        if new["seconds"] > SLOWER * old["seconds"] or (new["added_mb"] or 0) > MORE * old["added_mb"] + 10:
            return Verdict(
                False,
                f"easycore of {old['rows']} rows takes {new['seconds']} s and {new['added_mb']} MB; "
                f"recorded are {old['seconds']} s and {old['added_mb']} MB",
            )
    if root is None:
        return Verdict(True, "easycore at 1.28 million rows; overlaps skipped, for EASYCORESET_DATA is not set")
    scores = unscored_table(open_source(f"cifar10:{root}"))
    rows = []
    methods = ("random", "random:per_class=true")
    for method in methods:
        coreset = load_selector(method)[1](scores, kept_count(0.1, len(scores)), 0)
        rows.append({"method": method, "fraction": 0.1, "kept": np.flatnonzero(coreset.keep).tolist()})
    found = {a: {b: record["overlap"]["0.1"][a][b] for b in methods} for a in methods}
    verdict = beside(found, overlap(rows, 0.1))
    return Verdict(verdict.holds, f"easycore at 1.28 million rows; overlap of random choices: {verdict.said}")


def check_budgets(file: Path, root: Path | None) -> Verdict:
    """The quickest of the benchmarks."""
    (old,) = json.loads(file.read_text())["augmentation"]["rows"]
    (new,) = augmentation.run()
    said = f"{new['what']}: {new['measured']:.2f}; recorded is {old['measured']:.2f}, the budget {old['budget']:g}"
    return Verdict(new["measured"] <= old["budget"], said)


def check_growth(file: Path, root: Path | None) -> Verdict:
    """The smallest size."""
    old = min(json.loads(file.read_text())["rows"], key=lambda row: (row["pixels"], row["rows"]))
    new = growth.measure(old["rows"], old["pixels"])
    said = (
        f"{old['rows']} rows take {new['seconds']} s and {new['peak_mb']} MB; "
        f"recorded are {old['seconds']} s and {old['peak_mb']} MB"
    )
    return Verdict(new["seconds"] <= SLOWER * old["seconds"] and new["peak_mb"] <= MORE * old["peak_mb"], said)


def check_fuzz(file: Path, root: Path | None) -> Verdict:
    """The recorded cases that ended wrong, which must end well by now."""
    cases = [
        (row["kind"], run["seed"], row["case"]) for run in json.loads(file.read_text())["runs"] for row in run["wrong"]
    ]
    ends = run_again(cases)
    wrong = [f"{kind} case {number}" for (kind, _, number), end in zip(cases, ends, strict=True) if end.end in WRONG]
    said = f"{len(wrong)} of {len(cases)} recorded cases still end wrong"
    return Verdict(not wrong, f"{said}: {', '.join(wrong)}" if wrong else said)


def check_coverage(file: Path, root: Path | None) -> Verdict:
    """The first case without an effect on images, with other draws: within three standard errors of the record."""
    rows = json.loads(file.read_text())["rows"]
    case = coverage.CASES[0]
    old = next(row for row in rows if row["case"] == case.name and row["image_effect"] == "none")
    new = coverage.simulate(case, 0.0, False, 400, seed=1)
    tables = 400
    held = sum(new.held) / sum(new.measured)
    claimed = new.claimed / tables
    error = 3 * (0.05 * 0.95 / tables) ** 0.5
    fine = old["lowest_coverage"] - error <= held <= old["highest_coverage"] + error
    said = (
        f"{case.name}: coverage {held:.3f}, false claims {claimed:.3f} in {tables} tables; recorded are "
        f"{old['lowest_coverage']} to {old['highest_coverage']}, and {old['false_claims']}"
    )
    return Verdict(fine and abs(claimed - old["false_claims"]) <= error, said)


def check_whole(file: Path, root: Path | None) -> Verdict:
    """The recorded command, as a whole: an hour or more."""
    if root is None:
        return NO_DATA
    record = json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / file.name
        words = [sys.executable, *shlex.split(record["command"])[1:]]
        replaced = {"cifar10:DIR": f"cifar10:{root}", f"results/{file.name}": str(place)}
        spend([replaced.get(word, word) for word in words], Path(temporary))  # where no earlier run is taken up
        return beside(record, json.loads(place.read_text()), absolute=0.02, relative=0.05)


CHECKS = {
    "budgets-cpu.json": check_budgets,
    "cifar10-dynamic": check_grid,
    "cifar10-main": check_grid,
    "cifar10-corruptions": check_grid,
    "cifar10-smoothing": check_grid,
    "cifar100-main": check_grid,
    "coverage.json": check_coverage,
    "fuzz.json": check_fuzz,
    "growth-cpu.json": check_growth,
    "selection-cifar10.json": check_selection,
}
WHOLES = (
    "agreement-cifar10",
    "clean-folder",
    "label-issues-confused",
    "label-issues-random",
    "noise-cifar10",
    "photo-folder",
)
WHOLE = {f"{name}.json": check_whole for name in WHOLES}


def check(path: Path, root: Path | None, named: bool) -> Verdict:
    """One result; a check that cannot be done at all is one that does not hold."""
    if path.name in WHOLE and not named:
        return Verdict(None, f"it can only be done as a whole: python -m benchmarks.check {path.name}")
    if path.name not in CHECKS | WHOLE:
        return Verdict(None, "nothing here does it again")
    try:
        return (CHECKS | WHOLE)[path.name](path, root)
    except Exception as error:  # whatever the rerun raises is a verdict, and the others are still looked at
        return Verdict(False, f"{type(error).__name__}: {error}")


def main(names: list[str], folder: Path = FOLDER) -> int:
    """Check what is named, else everything; returns how many do not hold."""
    torch.set_num_threads(1)
    root = Path(os.environ["EASYCORESET_DATA"]).resolve() if os.environ.get("EASYCORESET_DATA") else None
    paths = sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix == ".json")
    unknown = set(names) - {path.name for path in paths}
    if unknown:
        sys.exit(f"unknown result {min(unknown)!r}: choose from {', '.join(path.name for path in paths)}")
    failed = 0
    for path in paths:
        if names and path.name not in names:
            continue
        started = time.monotonic()
        verdict = check(path, root, bool(names))
        failed += verdict.holds is False
        word = {True: "holds", False: "DOES NOT HOLD", None: "skipped"}[verdict.holds]
        print(f"{path.name:24} {word:13} {verdict.said} ({time.monotonic() - started:.0f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
