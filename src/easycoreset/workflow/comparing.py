"""`compare`: a grid of methods over data, models, fractions, objectives, budgets and seeds; its table and contrasts."""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log
from easycoreset.data import cached_sources
from easycoreset.errors import require
from easycoreset.file_lists import FileList, check_free, delete_run, delete_written
from easycoreset.members import load_attribute
from easycoreset.options import CompareOptions, accept_options
from easycoreset.options.evaluating import BEST_FOLDER
from easycoreset.parquet import to_pandas, write_table
from easycoreset.plan_folders import RESULTS, STEPS_FOLDER
from easycoreset.process_group import preserve_rng
from easycoreset.python_objects import name_briefly
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.run_folders import SharedFolder, open_plan_folder
from easycoreset.statistics import Contrast
from easycoreset.statistics.results import Rows, collect_results
from easycoreset.statistics.starts import read_plans
from easycoreset.training.setup import choose_device
from easycoreset.workflow.cells import Cell
from easycoreset.workflow.declared import DeclaredContrasts, resolve_contrasts
from easycoreset.workflow.grids import Grid, describe_product, merge_cells
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.recipes import read_grid
from easycoreset.workflow.runner import check_runner, run_steps
from easycoreset.workflow.starts import (
    add_start,
    completion_record,
    describe_start,
    is_evaluated,
    merge_records,
    read_earlier_starts,
    update_record,
)
from easycoreset.workflow.steps import KINDS, Step, is_done, with_inputs
from easycoreset.workflow.worker import Machine, delete_damaged

OUTPUT_NAMES = (STEPS_FOLDER, "locks", RESULTS)  # the paths that a plan may write
WORKERS = 2  # default number of workers


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        results: one row per cell, attack and radius, as in `results.parquet`.
        contrasts: the declared contrasts first, then every method against random and all data; each has a `verdict`,
            and `describe()` states it in a sentence.
        out: the folder of the comparison, from which `report` writes its page.
    """

    results: pa.Table
    contrasts: list[Contrast]
    out: Path

    def __repr__(self) -> str:
        """The declared contrasts, one per line."""
        cells = len(set(self.results["cell"].to_pylist()))
        declared = [contrast.describe() for contrast in self.contrasts if contrast.declared]
        return name_briefly("\n".join([f"Comparison of {cells} cells in {self.out}", *declared]))

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_comparison")(self)

    def plot(self, number: int = 0) -> Any:
        """A plotly figure of robust against clean accuracy.

        Args:
            number: number of the setting, from 0, if there are several.

        Raises:
            UsageError: there is no setting of this number.
        """
        return load_attribute("result", "easycoreset.reporting.notebook:plot_comparison")(self, number)

    def to_pandas(self) -> Any:
        """The results as a pandas DataFrame, one row per cell, attack and radius (needs the extra `pandas`).

        Raises:
            UsageError: pandas is not installed.
        """
        return to_pandas(self.results)


@dataclass(frozen=True)
class GridPlan:
    """A grid with its cells and what it declares."""

    grid: Grid
    cells: list[Cell]
    declared: DeclaredContrasts

    @property
    def targets(self) -> list[Step]:
        """The steps of all cells, in order of importance."""
        return [step for cell in self.cells for step in cell.targets]


@accept_options(CompareOptions, temporary_out="comparison")
def compare(options: CompareOptions) -> Comparison:
    """Compare coreset methods over data, models, fractions, objectives, budgets, seeds and any option of the steps.

    Finished steps in `out` are not run again. Worker processes do the work, and they import the calling script: keep
    the call in a script under `if __name__ == "__main__":`.

    Returns:
        The results, the contrasts and the folder.

    Raises:
        UsageError: invalid options or data, before work starts.
        GridError: some steps failed; the others are done.
    """
    for name in ("dry_run", "preregister"):
        require(not getattr(options, name), name, "left to the command line", True)
    results = run_comparison(options)
    return Comparison(results=results, contrasts=ComparisonResults(options.out).contrasts, out=options.out)


@preserve_rng()
@cached_sources()
def plan_comparison(options: CompareOptions) -> GridPlan:
    """The plan of a comparison: every member, data set and model is tried, and nothing is written.

    Raises:
        UsageError: wrong use.
    """
    grid = read_grid(options)
    inputs = Inputs(options.device, options.download, options.num_workers)
    has_gpu = options.on is not None or choose_device(options.device).type == "cuda"
    require(has_gpu or not options.cuda_graphs, "cuda_graphs", "left out without a GPU", True)
    by_product = grid.build_cells(inputs)
    needed = {cell.steps["train"].key for cells in by_product for cell in cells if not _is_evaluated(cell, options.out)}
    best = [
        [cell for cell in cells if cell.steps["train"].key in needed or not _must_train(cell, options.out)]
        for cells in grid.at_best_epochs(by_product)
    ]
    cells = merge_cells([*by_product, *best])
    return GridPlan(grid, cells, resolve_contrasts(grid, by_product))


def _is_evaluated(cell: Cell, out: Path) -> bool:
    return all(is_done(step, out) for step in cell.targets if step.kind == "evaluate")


def _must_train(cell: Cell, out: Path) -> bool:
    """Whether the evaluation of a best epoch would train a finished model again, whose weights were discarded."""
    trained = cell.steps["train"]
    lacks_weights = is_done(trained, out) and not (trained.folder(out) / BEST_FOLDER).exists()
    return lacks_weights and not _is_evaluated(cell, out)


def run_comparison(
    options: CompareOptions, render_progress: Callable[[pa.Table], Any] = lambda table: None
) -> pa.Table:
    """Run the steps that are missing; `render_progress` renders the results so far, shown above the progress bar."""
    is_worker_import = getattr(multiprocessing.current_process(), "_inheriting", False)
    require(
        not is_worker_import,
        "compare",
        'called under `if __name__ == "__main__":`',
        "a call in a script that workers import",
    )
    out = options.out
    plan = plan_comparison(options)
    first, count = options.parse_shard()
    shard = [step for cell in plan.cells[first - 1 :: count] for step in cell.targets]
    check_runner(options, options.device, shard)
    earlier = read_earlier_starts(out, "compare") if options.overwrite else {}
    with open_plan_folder(out, "compare", overwrite=options.overwrite, output_names=OUTPUT_NAMES) as folder:
        record = _record_start(folder, plan, earlier)
        finished: dict[str, Rows] = {}

        def on_done(step: Step) -> Any:
            return render_progress(write_results(out, record, finished)) if step.kind == "evaluate" else None

        try:
            run_steps(shard, options, Machine(out, options.device, options.num_workers), on_done, WORKERS)
        finally:
            table = write_results(out, record, finished)
        if options.discard_weights:
            discard_weights(plan.targets, out)
        if options.prune:
            prune_steps(out, record)
        if all(is_done(step, out) for step in plan.targets):
            update_record(out, lambda record: record | completion_record(cells=len(plan.cells), rows=table.num_rows))
    return table


def preregister_comparison(options: CompareOptions) -> DeclaredContrasts:
    """Write the plan, its declared contrasts and its seeds into `out`; nothing is run.

    Raises:
        UsageError: wrong use, or `out` holds evaluated cells.
    """
    plan = plan_comparison(options)
    with open_plan_folder(options.out, "compare", output_names=OUTPUT_NAMES) as folder:
        done = sum(is_evaluated(cell, options.out) for cell in plan.cells)
        require(not done, "preregister", "given before any cell is evaluated", f"{done} cells in {options.out}")
        _record_start(folder, plan, {})
    return plan.declared


def _record_start(folder: SharedFolder, plan: GridPlan, earlier: dict[str, Any]) -> dict[str, Any]:
    """Record the plan and the declared contrasts before anything runs; returns the record.

    The starts of `earlier`, which this start overwrites, are kept: their results may have been seen.
    """
    out = folder.path
    if folder.is_exclusive:
        delete_damaged(plan.targets, out)
        folder.allow_others()
    check_free(out / RESULTS)

    def add_this_start(record: dict[str, Any]) -> dict[str, Any]:
        known = earlier | record
        products = [describe_product(product) for product in plan.grid.products]
        starts = known.get("starts", [])
        new = describe_start(plan.grid.name, products, plan.cells, plan.declared, out, starts)
        cells = merge_records(record, plan.cells)
        return record | {"status": "running", "cells": cells, "starts": add_start(known, new)}

    record = update_record(out, add_this_start)
    superseded = sum(cell["superseded"] for cell in record["cells"])
    if other_count := len(record["cells"]) - superseded - len(plan.cells):
        log.info("%d cells of earlier starts stay in the table and on the page", other_count)
    if superseded:
        message = "%d cells of earlier starts are left out of the table: their data or code have changed since"
        log.warning(message, superseded)
    _warn_of_late_declarations(record, plan.declared)
    return record


def _warn_of_late_declarations(record: dict[str, Any], declared: DeclaredContrasts) -> None:
    plans = read_plans(record)
    late_contrasts = [contrast for contrast, _ in plans.later if contrast in declared.contrasts]
    if late_contrasts:
        log.warning(
            "contrasts that are exploratory, since cells that they use were evaluated before, or since they came after "
            "the first start: %d",
            len(late_contrasts),
        )
    is_first_primary = (
        plans.primary is not None and declared.primary is not None and declared.primary.uses_same_cells(plans.primary)
    )
    if declared.primary is not None and not is_first_primary:
        log.warning(
            "primary: the first start did not declare it before anything was evaluated; %s",
            "no contrast is tested alone"
            if plans.primary is None
            else "the primary contrast of the first start remains",
        )


def write_results(out: Path, record: dict[str, Any], finished: dict[str, Rows]) -> pa.Table:
    """Collect the results of all starts' cells and write them; `finished` holds what was read before."""
    table = collect_results(out, record["cells"], finished)
    write_table(table, out / RESULTS)
    return table


def discard_weights(targets: Sequence[Step], out: Path) -> None:
    """Delete the weights of models and of scored epochs, once every step that needs them is done."""
    steps = with_inputs(targets)
    needed = {other.key for step in steps if not is_done(step, out) for other in step.steps.values()}
    for step in steps:
        kind = KINDS[step.kind]
        if kind.weights and step.key not in needed and is_done(step, out):
            with FileList(step.folder(out), kind.record).active():
                for name in kind.weights:
                    delete_written(step.folder(out) / name)


def prune_steps(out: Path, record: dict[str, Any]) -> None:
    """Delete the steps that no start needs: those of superseded cells go unless a declared contrast names them."""
    plans = read_plans(record)
    declared = {name for contrast in (*plans.family, *(c for c, _ in plans.later)) for name in contrast.cells}
    needed: set[str] = set()
    for cell in (c for c in record["cells"] if not c["superseded"] or c["name"] in declared):
        needed |= {f"{kind}-{key}" for kind, key in cell["steps"].items()}
        needed |= {f"evaluate-{entry['key']}" for entry in (*cell["evaluations"], *cell.get("beyond", ()))}
        needed |= {f"train-{entry['surrogate']}" for entry in cell["evaluations"] if "surrogate" in entry}
    for folder in sorted((out / STEPS_FOLDER).iterdir()):
        kind = folder.name.partition("-")[0]
        if folder.name not in needed and kind in KINDS:
            log.info("%s is deleted: no start needs it", folder)
            delete_run(folder, KINDS[kind].record)
