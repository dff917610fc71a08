"""The cheapest finished cell of a committed comparison, done again."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Verdict
from easycoreset.options import CompareOptions, field_names
from easycoreset.plan_folders import RESULTS, read_plan
from easycoreset.statistics.results import collect_results
from easycoreset.workflow.cells import Cell
from easycoreset.workflow.grids import Grid, merge_cells
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.steps import with_inputs
from easycoreset.workflow.worker import Machine, run_step

LINE = ("attack", "eps", "accuracy", "low", "high", "samples")


def check_grid(folder: Path, root: Path | None) -> Verdict:
    """Train and evaluate the cheapest cell that looks at no scores; `root` holds the data sets that are files."""
    if not (folder / RESULTS).exists():
        return Verdict(None, "it is preregistered, and no cell is finished")
    table = pq.read_table(folder / RESULTS)
    plan = read_plan(folder)
    products = [product for start in plan["starts"] for product in start.get("products", ())]
    kinds = sorted({data.partition(":")[0] for product in products for data in product["data"] if ":" in data})
    if kinds and root is None:
        return Verdict(None, f"EASYCORESET_DATA is not set; needed for {', '.join(kinds)}")
    cells = {cell.name: cell for cell in plan_again(products, root)}
    if unknown := sorted(set(table["cell"].to_pylist()) - set(cells)):
        return Verdict(False, f"{len(unknown)} finished cells are named otherwise now: {', '.join(unknown[:3])}")
    name = cheapest(table, plan["cells"])
    with tempfile.TemporaryDirectory() as temporary:
        found = run_again(cells[name], Path(temporary))
    verdict = compare_cell(rows_of(table, name), rows_of(found, name))
    cell = cells[name]
    budget = f"{cell.updates} updates" if cell.updates else f"{cell.epochs} epochs"
    said = f"{cell.method} at {cell.fraction:g}, {cell.objective}, {budget}, seed {cell.seed}"
    return Verdict(verdict.holds, f"{said}: {verdict.said}")


def plan_again(products: Sequence[Mapping[str, Any]], root: Path | None) -> list[Cell]:
    """The cells of recorded products; data sets that are files lie in `root`.

    Of a record of another version only the options that are known now are read.
    """
    known = field_names(CompareOptions)
    whole = []
    for product in products:
        options = {name: value for name, value in product.items() if name in known}
        options["data"] = [f"{data.partition(':')[0]}:{root}" if ":" in data else data for data in product["data"]]
        whole.append(CompareOptions(**options, out="again"))
    return merge_cells(Grid(name="again", products=tuple(whole)).build_cells(Inputs("cpu")))


def run_again(cell: Cell, out: Path) -> pa.Table:
    """The table of a cell that is computed in an empty folder, without its strong attacks, which take longest.

    Raises:
        RuntimeError: a step failed.
    """
    cell = dataclasses.replace(cell, evaluations=tuple(pair for pair in cell.evaluations if not pair[1]))
    for step in with_inputs(cell.targets):
        report = run_step(step, Machine(out, "cpu"))
        if report.status != "done":
            raise RuntimeError(f"{step.title}: {report.status} {report.reason}")
    return collect_results(out, [cell.to_json()])


def cheapest(table: pa.Table, cells: Sequence[Mapping[str, Any]]) -> str:
    """Name of the finished cell that took least, without scores; adversarial training only where there is no other.

    Args:
        table: the table of results.
        cells: the cells as `plan.json` describes them.
    """
    seconds = dict(zip(table["cell"].to_pylist(), table["seconds"].to_pylist(), strict=True))
    free = {cell["name"]: cell for cell in cells if cell["name"] in seconds and "score" not in cell["steps"]}
    return min(free, key=lambda name: (free[name]["objective"] != "standard", seconds[name]))


def rows_of(table: pa.Table, name: str) -> list[dict[str, Any]]:
    """What the table says of a cell: a row an attack and eps, without strong attacks."""
    wanted = [row for row in table.to_pylist() if row["cell"] == name and not row["strong"]]
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
