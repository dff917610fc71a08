"""The cheapest finished cell of a committed experiment, done again."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Verdict
from easycoreset.experiment import Cell, Experiment, Product
from easycoreset.experiment.results import collect_results
from easycoreset.experiment.tasks import RunSettings
from easycoreset.experiment.worker import run_cell
from easycoreset.files import read_json

LINE = ("attack", "eps", "accuracy", "low", "high", "samples")


def check_grid(folder: Path, root: Path | None) -> Verdict:
    """Train and evaluate the cheapest cell that looks at no scores; `root` holds the data sets that are files."""
    if not (folder / "results.parquet").exists():
        return Verdict(None, "it is preregistered, and no cell is finished")
    table = pq.read_table(folder / "results.parquet")
    cells = {cell.name: cell for cell in read_experiment(folder).cells()}
    if unknown := sorted(set(table["cell"].to_pylist()) - set(cells)):
        return Verdict(False, f"{len(unknown)} finished cells are named otherwise now: {', '.join(unknown[:3])}")
    name = cheapest(table, cells)
    kind, _, place = cells[name].data.partition(":")
    if place and root is None:
        return Verdict(None, f"EASYCORESET_DATA is not set; needed for {kind}")
    data = f"{kind}:{root}" if place else kind
    again = dataclasses.replace(cells[name], data=data, strong=())  # those stand beside the table
    with tempfile.TemporaryDirectory() as temporary:
        run_cell(again, RunSettings(Path(temporary), "cpu"))
        verdict = compare_cell(rows_of(table, name), rows_of(collect_results(Path(temporary), [again]), again.name))
    cell = cells[name]
    budget = f"{cell.updates} updates" if cell.updates else f"{cell.epochs} epochs"
    said = f"{cell.method} at {cell.fraction:g}, {cell.objective}, {budget}, seed {cell.seed}"
    return Verdict(verdict.holds, f"{said}: {verdict.said}")


def read_experiment(folder: Path) -> Experiment:
    """The experiment as its run.json describes it."""
    record = read_json(folder / "run.json")["experiment"]
    whole = [
        Product(**known(Product, product) | {"base": Cell(**known(Cell, product["base"]))})
        for product in record["products"]
    ]
    return Experiment(name=record["name"], products=tuple(whole))


def known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that are in a record, which may be of a version with others."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in names}


def cheapest(table: pa.Table, cells: dict[str, Cell]) -> str:
    """Name of the finished cell that took least, without scores; adversarial training only where there is no other.

    Of cells that were trained and evaluated by different starts the seconds are those of the last one.
    """
    seconds = dict(zip(table["cell"].to_pylist(), table["seconds"].to_pylist(), strict=True))
    free = [name for name in seconds if not cells[name].needs_scores]
    return min(free, key=lambda name: (cells[name].objective != "standard", seconds[name]))


def rows_of(table: pa.Table, name: str) -> list[dict[str, Any]]:
    """What the table says of a cell: a row an attack and eps."""
    wanted = [row for row in table.to_pylist() if row["cell"] == name]
    return [{key: row[key] for key in (*LINE, "clean", "kept")} for row in wanted]


def compare_cell(recorded: list[dict[str, Any]], found: list[dict[str, Any]]) -> Verdict:
    """The same accuracies, or each under attack within the recorded interval; the counts must be the same."""
    if recorded == found:
        return Verdict(True, f"the same {len(found)} accuracies")
    for old, new in zip(recorded, found, strict=False):
        what = f"{old['attack']} at eps {old['eps']:.3g}"
        for key in ("attack", "eps", "samples", "kept"):
            if old[key] != new[key]:
                return Verdict(False, f"{what}: {key} is {new[key]}; recorded is {old[key]}")
        if not old["low"] <= new["accuracy"] <= old["high"]:
            interval = f"{old['accuracy']:.4f} ({old['low']:.4f} to {old['high']:.4f})"
            return Verdict(False, f"{what}: {new['accuracy']:.4f} is outside the recorded {interval}")
    if len(recorded) != len(found):
        return Verdict(False, f"{len(found)} attacked accuracies; recorded are {len(recorded)}")
    same = sum(old == new for old, new in zip(recorded, found, strict=True))
    return Verdict(True, f"within the recorded intervals, {same} of {len(found)} the same")
