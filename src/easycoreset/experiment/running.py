"""Running an experiment: each cell once, in order of importance, over several starts."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log, progress
from easycoreset.errors import GridError, UsageError, require
from easycoreset.experiment.cells import Cell, Experiment
from easycoreset.experiment.declaring import Declared, declare
from easycoreset.experiment.pools import Pool, check_pool, open_pool
from easycoreset.experiment.results import SCHEMA, collect, drop_corrupt, is_done, is_scored, refuse_other_data
from easycoreset.experiment.starts import add_start, change_record, finished, starts_before
from easycoreset.experiment.tasks import Setting, Task, list_tasks
from easycoreset.experiment.work import Report
from easycoreset.folders import OWN, SharedFolder, share
from easycoreset.ledgers import Ledger, check_free
from easycoreset.options import Device
from easycoreset.parquet import read_shape, write_table
from easycoreset.paths import digest_of
from easycoreset.statistics.starts import read_plans

RESULTS = "results.parquet"
PLACES = ("cells", "scores", "locks", RESULTS)  # what a grid may write
TRIES = 2  # of a piece of work whose worker died while nothing else ran
BUSY_SECONDS = 1.0  # before work that another process has is looked at again


@dataclass
class Plan:
    """The work of one start."""

    out: Path
    deadline: float = float("inf")
    waiting: list[Task] = field(default_factory=list)
    not_before: dict[Task, float] = field(default_factory=dict)
    deaths: dict[Task, int] = field(default_factory=dict)
    failed: dict[Task, str] = field(default_factory=dict)
    scored: set[Cell] = field(default_factory=set)


def run_experiment(
    experiment: Experiment,
    out: Path,
    *,
    workers: int | None = None,
    on: str | None = None,
    device: Device = "auto",
    keep_weights: bool = False,
    minutes: float | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    num_workers: int = 2,
    told: Callable[[pa.Table], Any] = lambda table: None,
) -> pa.Table:
    """Do every cell that is not done, each by one thread (or GPU).

    A finished cell is a folder `cells/NAME` with `cell.json`, written beside its place and renamed. A second start
    does only what is missing; several processes may work in one folder at once, and do no cell twice.

    Args:
        experiment: what to do; more methods, fractions, budgets or seeds than at the last start extend it.
        out: its folder.
        workers: pieces of work at once; None for 2 here, and on Ray for as many as its CPUs (or GPUs).
        on: None for worker processes of this machine, `ray` or `ray:ADDRESS` for the machines of a Ray cluster.
        device: of the models.
        keep_weights: keep each cell's model and coreset.
        minutes: stop after so many; the next start goes on.
        shard: (i, n): every n-th cell, from the i-th on, counted from 1.
        overwrite: begin anew in a folder of another experiment.
        num_workers: processes that decode pictures of a folder too large for memory.
        told: makes what is shown above the progress bar of the results so far.

    Returns:
        The results of all the experiment's cells that are done, which are in `results.parquet` too.

    Raises:
        UsageError: wrong use, or no Ray where it is asked for.
        GridError: some cells failed; the others are done.
    """
    require(workers is None or workers >= 1, "workers", ">= 1", workers)
    require(minutes is None or minutes > 0, "minutes", "> 0", minutes)
    require(1 <= shard[0] <= shard[1], "shard", "I/N with 1 <= I <= N", f"{shard[0]}/{shard[1]}")
    cells = experiment.cells()
    mine = cells[shard[0] - 1 :: shard[1]]
    plan = Plan(out, float("inf") if minutes is None else time.monotonic() + 60 * minutes)
    check_pool(None if all(is_done(out, cell) for cell in mine) else on)
    declared = declare(experiment)
    earlier = starts_before(out, experiment) if overwrite else {}
    with share(out, "compare", experiment.identity(), overwrite=overwrite, places=PLACES) as folder:
        _begin(folder, experiment, declared, earlier)
        missing = [cell for cell in mine if not is_done(out, cell)]
        plan.waiting = list_tasks(out, missing, cells)
        with progress("cells", len(mine), len(mine) - len(missing)) as bar:

            def advance(task: Task) -> None:
                if task.kind == "cell":
                    bar.advance(1, task.what, above=told(_write_results(out, cells)))

            if plan.waiting:
                setting = Setting(out, device, keep_weights, num_workers, fingerprint=experiment.fingerprint)
                with contextlib.closing(open_pool(on, workers, setting)) as pool:
                    _run(plan, pool, advance)
        table = _write_results(out, cells)
        left = sum(not is_done(out, cell) for cell in cells)
        if not left:
            change_record(out, lambda record: record | finished(cells=len(cells), rows=table.num_rows))
    if plan.failed:
        raise GridError(_tell_failures(plan, mine))
    if sum(not is_done(out, cell) for cell in mine):
        log.warning("time is up: %d of %d cells are left; the same command goes on", left, len(cells))
    return table


def preregister(experiment: Experiment, out: Path) -> Declared:
    """Write the plan, what it declares and its seeds into a folder, and do nothing of it.

    Raises:
        UsageError: wrong use, or cells were evaluated in that folder already.
    """
    declared = declare(experiment)
    with share(out, "compare", experiment.identity(), places=PLACES) as folder:
        done = len(list((out / "cells").glob("[!.]*")))
        require(not done, "preregister", "given before any cell is evaluated", f"{done} cells in {out}")
        _begin(folder, experiment, declared, {})
    return declared


def _begin(folder: SharedFolder, experiment: Experiment, declared: Declared, earlier: dict[str, Any]) -> None:
    """Look over what is there, and record what is planned and declared, before anything runs.

    What `earlier` starts declared stays: their results were looked at, though the folder begins anew.
    """
    cells = experiment.cells()
    refuse_other_data(folder.path, cells, experiment.fingerprint)
    if folder.alone:
        _adopt_results(folder.path)
        drop_corrupt(folder.path, cells)
        folder.settle()
    names = {cell.name for cell in cells}
    there = (folder.path / "cells").glob("[!.]*")
    if others := sum(place.name not in names for place in there):
        log.warning(
            "%d finished cells of %s are not of this grid and are left out: name their methods, fractions, "
            "budgets and seeds too to see all together",
            others,
            folder.path,
        )

    check_free(folder.path / RESULTS)

    def begun(record: dict[str, Any]) -> dict[str, Any]:
        starts = add_start(earlier | record, experiment, declared, folder.path)
        return record | {
            "status": "running",
            "experiment": experiment.record(),
            "planned": len(cells),
            "starts": starts,
        }

    record = change_record(folder.path, begun)
    plans = read_plans(record)
    late = [contrast for contrast, _ in plans.later if contrast in declared.contrasts]
    if late:
        log.warning(
            "%d contrasts were not declared before cells that they rest on were evaluated, or not at the first "
            "start: they are exploratory",
            len(late),
        )
    kept = plans.primary is not None and declared.primary is not None and declared.primary.is_same(plans.primary)
    if declared.primary is not None and not kept:
        log.warning(
            "primary: it was not declared by the first start before anything was evaluated; %s",
            "none is tested alone" if plans.primary is None else "the first start's stays",
        )


def _adopt_results(out: Path) -> None:
    """Version 0.1 kept no list of what it wrote: its table of results is known by its columns."""
    file = out / RESULTS
    ledger = Ledger(out, OWN)
    with contextlib.suppress(UsageError):
        columns = set(read_shape(file)[0])  # version 0.1 had fewer
        if RESULTS not in ledger.entries() and {"cell", "main", "accuracy"} <= columns <= set(SCHEMA.names):
            ledger.note(file, digest_of(file))


def _run(plan: Plan, pool: Pool, advance: Callable[[Task], None]) -> None:
    """Hand out work until none is left or the time is up."""
    running = dict[Future[Any], Task]()
    while (plan.waiting or running) and time.monotonic() < plan.deadline:
        while (task := _next(plan, list(running.values()), pool.size)) is not None:
            try:
                running[pool.submit(task)] = task
            except BrokenProcessPool:  # a worker died between two pieces of work; what ran is seen below
                plan.waiting.insert(0, task)
                if not running:
                    pool.begin_anew()
                break
        if not running:
            time.sleep(0.1)
            continue
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            try:
                report = pool.result(future)
            except BrokenProcessPool:
                _count_death(plan, list(running.values()))
                running.clear()
                pool.begin_anew()
                break
            _take_in(plan, running.pop(future), report, advance)


def _take_in(plan: Plan, task: Task, report: Report, advance: Callable[[Task], None]) -> None:
    if report.status == "done":
        advance(task)
    elif report.status == "failed":
        plan.failed[task] = report.reason
    else:  # another process has it
        plan.waiting.insert(0, task)
        plan.not_before[task] = time.monotonic() + BUSY_SECONDS


def _count_death(plan: Plan, running: Sequence[Task]) -> None:
    """A worker died, which ends the pool: what ran is tried again, each piece alone, so that the culprit is known."""
    for task in running:
        plan.deaths[task] = plan.deaths.get(task, 0) + (len(running) == 1)
        if plan.deaths[task] >= TRIES:
            plan.failed[task] = "its worker process died"
        else:
            plan.waiting.insert(0, task)
            log.warning("a worker process died; %s is tried again", task.what)


def _next(plan: Plan, running: Sequence[Task], workers: int) -> Task | None:
    """Take the most important task that can be done now: its scores are there, and no other process has it."""
    if len(running) >= workers or any(task in plan.deaths for task in running):
        return None
    lost = {task.cell.scoring_name for task in plan.failed if task.kind == "score"}
    for task in list(plan.waiting):
        if task.kind == "cell" and task.cell.needs_scores and not _scores_ready(plan, task.cell):
            if task.cell.scoring_name in lost:
                plan.waiting.remove(task)
                plan.failed[task] = "its scoring run failed"
                continue
            if any(
                t.kind == "score" and t.cell.scoring_name == task.cell.scoring_name for t in (*plan.waiting, *running)
            ):
                continue  # without one, scoring has not made what the cell needs: the cell itself says what
        suspect = task in plan.deaths
        if time.monotonic() >= plan.not_before.get(task, 0.0) and not (suspect and running):
            plan.waiting.remove(task)
            return task
    return None


def _scores_ready(plan: Plan, cell: Cell) -> bool:
    if cell not in plan.scored and is_scored(plan.out, cell, cell.needs_features):
        plan.scored.add(cell)
    return cell in plan.scored


def _write_results(out: Path, cells: Sequence[Cell]) -> pa.Table:
    table = collect(out, cells)
    write_table(table, out / RESULTS)
    return table


def _tell_failures(plan: Plan, cells: Sequence[Cell]) -> str:
    failed = [task for task in plan.failed if task.kind == "cell"]
    task, reason = next(iter(plan.failed.items()))
    return f"{len(failed)} of {len(cells)} cells failed; the first: {task.what}: {reason}; run again to retry them"
