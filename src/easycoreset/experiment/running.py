"""Running an experiment: persistent workers, each cell once, in order of importance, over several starts."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log, progress
from easycoreset.errors import GridError, require
from easycoreset.experiment.cells import Cell, Experiment, FeatureKind
from easycoreset.experiment.results import collect, drop_corrupt, is_done, refuse_other_data
from easycoreset.experiment.work import Report, is_scored, work_on
from easycoreset.files import SharedFolder, share, write_json
from easycoreset.options import Device
from easycoreset.parquet import write_table

TRIES = 2  # of a piece of work whose worker died while nothing else ran
KINDS: tuple[FeatureKind, ...] = ("adversarial", "clean")  # the first holds the second
BUSY_SECONDS = 1.0  # before work that another process has is looked at again


@dataclass(frozen=True)
class Task:
    """One piece of work: a scoring run, or a cell."""

    kind: str
    cell: Cell
    features: FeatureKind | None = None
    hardness: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """For people."""
        cell = self.cell
        if self.kind == "score":
            return f"scoring of seed {cell.seed}" + (f" with {self.features} features" if self.features else "")
        return f"{cell.method} at {cell.fraction:g}, {cell.objective}, seed {cell.seed}"


@dataclass
class Plan:
    """The work of one start."""

    out: Path
    workers: int
    device: Device = "auto"
    keep_weights: bool = False
    deadline: float = float("inf")
    waiting: list[Task] = field(default_factory=list)
    not_before: dict[Task, float] = field(default_factory=dict)
    deaths: dict[Task, int] = field(default_factory=dict)
    failed: dict[Task, str] = field(default_factory=dict)
    scored: set[Cell] = field(default_factory=set)


def run_experiment(experiment: Experiment, out: Path, *, workers: int = 2, device: Device = "auto",
                   keep_weights: bool = False, minutes: float | None = None, shard: tuple[int, int] = (1, 1),
                   overwrite: bool = False,
                   told: Callable[[pa.Table], Any] = lambda table: None) -> pa.Table:  # fmt: skip
    """Do every cell that is not done, in persistent worker processes of one thread (or GPU) each.

    A finished cell is a folder `cells/NAME` with `cell.json`, written beside its place and renamed. A second start
    does only what is missing; several processes may work in one folder at once, and do no cell twice.

    Args:
        experiment: what to do; more methods, fractions, budgets or seeds than at the last start extend it.
        out: its folder.
        workers: processes.
        device: of the models.
        keep_weights: keep each cell's model and coreset.
        minutes: stop after so many; the next start goes on.
        shard: (i, n): every n-th cell, from the i-th on, counted from 1.
        overwrite: begin anew in a folder of another experiment.
        told: makes what is shown above the progress bar of the results so far.

    Returns:
        The results of all the experiment's cells that are done, which are in `results.parquet` too.

    Raises:
        UsageError: wrong use.
        GridError: some cells failed; the others are done.
    """
    require(workers >= 1, "workers", ">= 1", workers)
    require(minutes is None or minutes > 0, "minutes", "> 0", minutes)
    require(1 <= shard[0] <= shard[1], "shard", "I/N with 1 <= I <= N", f"{shard[0]}/{shard[1]}")
    cells = experiment.cells()
    mine = cells[shard[0] - 1 :: shard[1]]
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    plan = Plan(out, workers, device, keep_weights, deadline)
    with share(out, "compare", experiment.identity(), overwrite=overwrite) as folder:
        _begin(folder, experiment, cells)
        missing = [cell for cell in mine if not is_done(out, cell)]
        plan.waiting = _tasks(out, missing, cells)
        with progress("cells", len(mine), len(mine) - len(missing)) as bar:

            def advance(task: Task) -> None:
                if task.kind == "cell":
                    bar.advance(1, task.what, above=told(_write_results(out, cells)))

            _run(plan, advance)
        table = _write_results(out, cells)
        left = sum(not is_done(out, cell) for cell in cells)
        if not left:
            folder.finish(summary={"cells": len(cells), "rows": table.num_rows})
    if plan.failed:
        raise GridError(_tell_failures(plan, mine))
    if sum(not is_done(out, cell) for cell in mine):
        log.warning("time is up: %d of %d cells are left; the same command goes on", left, len(cells))
    return table


def _begin(folder: SharedFolder, experiment: Experiment, cells: Sequence[Cell]) -> None:
    """Look over what is there, and record what is planned and declared, before anything runs."""
    refuse_other_data(folder.path, cells, experiment.fingerprint)
    if folder.alone:
        drop_corrupt(folder.path, cells)
        folder.settle()
    declared = experiment.declared() | folder.record.get("declared", {})  # what was declared first stays declared
    folder.record |= {
        "status": "running",
        "experiment": experiment.record(),
        "declared": declared,
        "planned": len(cells),
    }
    write_json(folder.file, folder.record)


def _tasks(out: Path, missing: Sequence[Cell], cells: Sequence[Cell]) -> list[Task]:
    """The missing cells in their order, each scoring run before the first cell that needs it.

    A scoring run measures what any of the experiment's `cells` needs, whoever does them.
    """
    tasks: dict[Task, None] = {}
    begun: set[str] = set()
    wanted: dict[str, set[FeatureKind | None]] = {}
    for cell in missing:
        wanted.setdefault(cell.scoring_name, set()).add(cell.needs_features)
    for cell in missing:
        name = cell.scoring_name
        if cell.needs_scores and name not in begun:
            begun.add(name)
            features: FeatureKind | None = next((kind for kind in KINDS if kind in wanted[name]), None)
            own = [c for c in missing if c.scoring_name == name and c.needs_scores]
            lacking = next((c for c in own if not is_scored(out, c, features)), None)
            if lacking is not None:
                sharing = [c for c in cells if c.scoring_name == name]
                hardness = sorted({need for c in sharing for need in c.needs_opt_in})
                tasks[Task("score", lacking, features, tuple(hardness))] = None
        tasks[Task("cell", cell)] = None
    return list(tasks)


def _run(plan: Plan, advance: Callable[[Task], None]) -> None:
    """Hand out work until none is left or the time is up."""
    pool, running = _open_pool(plan.workers), dict[Future, Task]()
    try:
        while (plan.waiting or running) and time.monotonic() < plan.deadline:
            while (task := _next(plan, list(running.values()))) is not None:
                arguments = (
                    task.kind, task.cell, plan.out, plan.device, plan.keep_weights, task.features, task.hardness,
                )  # fmt: skip
                try:
                    running[pool.submit(work_on, *arguments)] = task
                except BrokenProcessPool:  # a worker died between two pieces of work; what ran is seen below
                    plan.waiting.insert(0, task)
                    if not running:
                        pool.shutdown(wait=False)
                        pool = _open_pool(plan.workers)
                    break
            if not running:
                time.sleep(0.1)
                continue
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                try:
                    report = future.result()
                except BrokenProcessPool:
                    _count_death(plan, list(running.values()))
                    running.clear()
                    pool.shutdown(wait=False)
                    pool = _open_pool(plan.workers)
                    break
                _take_in(plan, running.pop(future), report, advance)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()


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


def _next(plan: Plan, running: Sequence[Task]) -> Task | None:
    """Take the most important task that can be done now: its scores are there, and no other process has it."""
    if len(running) >= plan.workers or any(task in plan.deaths for task in running):
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
    write_table(table, out / "results.parquet")
    return table


def _tell_failures(plan: Plan, cells: Sequence[Cell]) -> str:
    failed = [task for task in plan.failed if task.kind == "cell"]
    task, reason = next(iter(plan.failed.items()))
    return f"{len(failed)} of {len(cells)} cells failed; the first: {task.what}: {reason}; run again to retry them"


def _open_pool(workers: int) -> ProcessPoolExecutor:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers' NumPy; our own is running already
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for place in range(workers):
        places.put(place)
    return ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(os.getpid(), places))


def _begin_worker(parent: int, places: "multiprocessing.Queue[int]") -> None:
    """One thread, a GPU of its own where there are several, and an end when the parent is gone, also when killed."""
    import torch

    torch.set_num_threads(1)
    place = places.get(timeout=10)
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(place % torch.cuda.device_count())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
