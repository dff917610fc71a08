"""The scheduler of an experiment: runs its cells in order of importance; a later start runs only missing cells."""

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
from easycoreset.experiment.declared_contrasts import DeclaredContrasts, resolve_contrasts
from easycoreset.experiment.pools import Pool, check_pool, open_pool
from easycoreset.experiment.results import (
    SCHEMA,
    collect_results,
    delete_corrupt_cells,
    is_done,
    is_scored,
    refuse_other_data,
)
from easycoreset.experiment.start_log import add_start, completion_record, read_earlier_starts, update_record
from easycoreset.experiment.tasks import RunSettings, Task, list_tasks
from easycoreset.experiment.worker import TaskReport
from easycoreset.file_lists import FileList, check_free
from easycoreset.options import Device
from easycoreset.parquet import read_shape, write_table
from easycoreset.paths import sha256_of_file
from easycoreset.run_folders import RUN_RECORD, SharedFolder, open_shared_run_folder
from easycoreset.statistics.starts import read_plans

RESULTS = "results.parquet"
OUTPUT_NAMES = ("cells", "scores", "locks", RESULTS)  # the paths that a grid may write
MAX_DEATHS = 2  # a task fails when its worker has died so often while no other task ran
BUSY_SECONDS = 1.0  # wait before a task that another process holds is tried again


@dataclass
class RunState:
    """The tasks of one start and their state.

    Attributes:
        out: the folder of the experiment.
        deadline: when to stop, in seconds of the monotonic clock.
        waiting: tasks that are not started, in order of importance.
        not_before: the earliest time at which a task that another process holds is tried again.
        deaths: for tasks that ran when a worker died, how often that happened while no other task ran.
        failed: failed tasks, with the reason.
        scored: cells whose scores are known to exist.
    """

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
    render_progress: Callable[[pa.Table], Any] = lambda table: None,
) -> pa.Table:
    """Run every cell that is not done, each on one thread (or GPU).

    A finished cell is a folder `cells/NAME` with `cell.json`, written under a temporary name and renamed. A second
    start runs only missing cells; several processes may work in one folder at once, and no cell is run twice.

    Args:
        experiment: what to run; it may have more methods, fractions, budgets or seeds than at the last start.
        out: the folder of the experiment.
        workers: number of tasks that run at once; None for 2 on this machine, or for as many as a Ray cluster has
            CPUs (or GPUs).
        on: None for worker processes of this machine, `ray` or `ray:ADDRESS` for the machines of a Ray cluster.
        device: device of the models.
        keep_weights: keep each cell's model and coreset.
        minutes: stop after this many minutes; the next start resumes.
        shard: (i, n): run every n-th cell, starting with the i-th, counted from 1.
        overwrite: replace another experiment in the folder.
        num_workers: processes that decode images if the folder is too large for memory.
        render_progress: renders the results so far, to show them above the progress bar.

    Returns:
        The results of all finished cells of the experiment, which are also in `results.parquet`.

    Raises:
        UsageError: wrong use, or Ray is requested and not available.
        GridError: some cells failed; the others are done.
    """
    require(workers is None or workers >= 1, "workers", ">= 1", workers)
    require(minutes is None or minutes > 0, "minutes", "> 0", minutes)
    require(1 <= shard[0] <= shard[1], "shard", "I/N with 1 <= I <= N", f"{shard[0]}/{shard[1]}")
    cells = experiment.cells()
    shard_cells = cells[shard[0] - 1 :: shard[1]]
    state = RunState(out, float("inf") if minutes is None else time.monotonic() + 60 * minutes)
    # a cluster is needed only if cells are missing
    check_pool(None if all(is_done(out, cell) for cell in shard_cells) else on)
    declared = resolve_contrasts(experiment)
    earlier_record = read_earlier_starts(out, experiment) if overwrite else {}
    with open_shared_run_folder(
        out, "compare", experiment.identity(), overwrite=overwrite, output_names=OUTPUT_NAMES
    ) as folder:
        _record_start(folder, experiment, declared, earlier_record)
        missing = [cell for cell in shard_cells if not is_done(out, cell)]
        state.waiting = list_tasks(out, missing, cells)
        with progress("cells", len(shard_cells), len(shard_cells) - len(missing)) as bar:

            def advance(task: Task) -> None:
                if task.kind == "cell":
                    bar.advance(1, task.description, above=render_progress(_write_results(out, cells)))

            if state.waiting:
                settings = RunSettings(out, device, keep_weights, num_workers, fingerprint=experiment.fingerprint)
                with contextlib.closing(open_pool(on, workers, settings)) as pool:
                    _run(state, pool, advance)
        table = _write_results(out, cells)
        if all(is_done(out, cell) for cell in cells):
            update_record(out, lambda record: record | completion_record(cells=len(cells), rows=table.num_rows))
    if state.failed:
        raise GridError(_describe_failures(state, shard_cells))
    if left := sum(not is_done(out, cell) for cell in shard_cells):
        log.warning("time is up: %d of %d cells are left; the same command resumes", left, len(shard_cells))
    return table


def preregister(experiment: Experiment, out: Path) -> DeclaredContrasts:
    """Write the plan, its declared contrasts and its seeds into a folder, and run nothing.

    Raises:
        UsageError: wrong use, or the folder holds evaluated cells.
    """
    declared = resolve_contrasts(experiment)
    with open_shared_run_folder(out, "compare", experiment.identity(), output_names=OUTPUT_NAMES) as folder:
        done = len(list((out / "cells").glob("[!.]*")))
        require(not done, "preregister", "given before any cell is evaluated", f"{done} cells in {out}")
        _record_start(folder, experiment, declared, {})
    return declared


def _record_start(
    folder: SharedFolder, experiment: Experiment, declared: DeclaredContrasts, earlier_record: dict[str, Any]
) -> None:
    """Check the folder, and record the plan and the declared contrasts, before anything runs.

    The starts of `earlier_record`, which this start overwrites, are kept: their results may have been seen.
    """
    cells = experiment.cells()
    refuse_other_data(folder.path, cells, experiment.fingerprint)
    if folder.is_exclusive:
        _adopt_results(folder.path)
        delete_corrupt_cells(folder.path, cells)
        folder.allow_others()
    names = {cell.name for cell in cells}
    finished_cells = (folder.path / "cells").glob("[!.]*")
    if other_count := sum(cell_folder.name not in names for cell_folder in finished_cells):
        log.warning(
            "%d finished cells of %s are not in this grid and are left out: add their methods, fractions, "
            "budgets and seeds to see all together",
            other_count,
            folder.path,
        )

    check_free(folder.path / RESULTS)

    def add_this_start(record: dict[str, Any]) -> dict[str, Any]:
        starts = add_start(earlier_record | record, experiment, declared, folder.path)
        return record | {
            "status": "running",
            "experiment": experiment.record(),
            "planned": len(cells),
            "starts": starts,
        }

    record = update_record(folder.path, add_this_start)
    plans = read_plans(record)
    late_contrasts = [contrast for contrast, _ in plans.later if contrast in declared.contrasts]
    if late_contrasts:
        log.warning(
            "%d contrasts are exploratory: they were declared after cells that they use were evaluated, or after the "
            "first start",
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


def _adopt_results(out: Path) -> None:
    """Add the results table of version 0.1 to the file list: that version wrote none; its columns identify it."""
    file = out / RESULTS
    file_list = FileList(out, RUN_RECORD)
    with contextlib.suppress(UsageError):
        columns = set(read_shape(file)[0])  # version 0.1 had fewer
        if RESULTS not in file_list.entries() and {"cell", "main", "accuracy"} <= columns <= set(SCHEMA.names):
            file_list.add(file, sha256_of_file(file))


def _run(state: RunState, pool: Pool, advance: Callable[[Task], None]) -> None:
    """Submit tasks until none is left or the time is up."""
    running = dict[Future[Any], Task]()
    while (state.waiting or running) and time.monotonic() < state.deadline:
        while (task := _next_task(state, list(running.values()), pool.size)) is not None:
            try:
                running[pool.submit(task)] = task
            except BrokenProcessPool:  # a worker died between two tasks; running ones are handled below
                state.waiting.insert(0, task)
                if not running:
                    pool.restart_workers()
                break
        if not running:
            time.sleep(0.1)
            continue
        for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
            try:
                report = pool.result(future)
            except BrokenProcessPool:
                _count_death(state, list(running.values()))
                running.clear()
                pool.restart_workers()
                break
            _handle_report(state, running.pop(future), report, advance)


def _handle_report(state: RunState, task: Task, report: TaskReport, advance: Callable[[Task], None]) -> None:
    if report.status == "done":
        advance(task)
    elif report.status == "failed":
        state.failed[task] = report.reason
    else:  # another process holds it
        state.waiting.insert(0, task)
        state.not_before[task] = time.monotonic() + BUSY_SECONDS


def _count_death(state: RunState, running: Sequence[Task]) -> None:
    """Queue the tasks that ran when a worker died; each is then run alone, to find out which one kills its worker."""
    ran_alone = len(running) == 1
    for task in running:
        state.deaths[task] = state.deaths.get(task, 0) + ran_alone
        if state.deaths[task] >= MAX_DEATHS:
            state.failed[task] = "its worker process died"
        else:
            state.waiting.insert(0, task)
            log.warning("a worker process died; retrying %s", task.description)


def _next_task(state: RunState, running: Sequence[Task], workers: int) -> Task | None:
    """Take the most important task that can run now; None if there is none, or if no worker is free.

    A cell waits for its scores, and a task that another process holds for some time. A task whose worker may have died
    because of it runs alone.
    """
    if len(running) >= workers or any(task in state.deaths for task in running):
        return None
    failed_scorings = {task.cell.scoring_name for task in state.failed if task.kind == "score"}
    for task in list(state.waiting):
        if task.kind == "cell" and task.cell.needs_scores and not _scores_ready(state, task.cell):
            if task.cell.scoring_name in failed_scorings:
                state.waiting.remove(task)
                state.failed[task] = "its scoring run failed"
                continue
            if any(
                other.kind == "score" and other.cell.scoring_name == task.cell.scoring_name
                for other in (*state.waiting, *running)
            ):
                continue
            # scoring has ended without all that the cell needs: the cell starts, and fails with the reason
        is_suspect = task in state.deaths
        if time.monotonic() >= state.not_before.get(task, 0.0) and not (is_suspect and running):
            state.waiting.remove(task)
            return task
    return None


def _scores_ready(state: RunState, cell: Cell) -> bool:
    if cell not in state.scored and is_scored(state.out, cell, cell.needs_features):
        state.scored.add(cell)
    return cell in state.scored


def _write_results(out: Path, cells: Sequence[Cell]) -> pa.Table:
    table = collect_results(out, cells)
    write_table(table, out / RESULTS)
    return table


def _describe_failures(state: RunState, cells: Sequence[Cell]) -> str:
    failed = [task for task in state.failed if task.kind == "cell"]
    task, reason = next(iter(state.failed.items()))
    return (
        f"{len(failed)} of {len(cells)} cells failed; the first: {task.description}: {reason}; run again to retry them"
    )
