"""Experiments: cells of (method, fraction, objective, budget, seed), each done once, side by side, in any order.

The only module, beside the pipeline, that knows the order score -> select -> train -> evaluate.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.attacks import ATTACKS
from easycoreset.console import log, progress
from easycoreset.errors import EasycoresetWarning, GridError, UsageError
from easycoreset.evaluation import evaluate
from easycoreset.files import SCHEMA_VERSION, claim, read_json, versions, write_json
from easycoreset.members import find_member, split_spec
from easycoreset.objectives import OBJECTIVES
from easycoreset.scoring import score, scores_file
from easycoreset.selection import SELECTORS, select
from easycoreset.tables import write_table
from easycoreset.training import train

RESULT_OPTIONS = ("data", "method", "fraction", "objective", "updates", "epochs", "seed")
TRIES = 2  # of a cell whose worker died


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run of a comparison and its evaluation.

    A cell is named by the hash of its options that are off their default and of its members' versions: a new
    option orphans no finished cell.
    """

    data: str
    model: str | None = None
    method: str = "random"
    fraction: float = 1.0
    objective: str = "standard"
    epochs: int | None = None
    updates: int | None = None
    seed: int = 0
    scoring_epochs: int = 15
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    schedule: str = "auto"
    attack: tuple[str, ...] = ("pgd",)
    norm: str = "linf"
    eps: tuple[float, ...] = (8 / 255,)
    limit: int | None = None

    def key(self) -> dict[str, Any]:
        """The options off their default."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}

    @property
    def name(self) -> str:
        """16 hex digits."""
        members = [("method", self.method, SELECTORS), ("objective", self.objective, OBJECTIVES)]
        members += [("attack", spec, ATTACKS) for spec in self.attack]
        made = [getattr(find_member(kind, split_spec(spec)[0], table), "version", 1) for kind, spec, table in members]
        return _hash([self.key(), made])

    @property
    def scoring_name(self) -> str:
        """16 hex digits of what its scores depend on: one scoring run serves all methods of a seed."""
        shared = ("data", "model", "seed", "scoring_epochs", "batch_size", "lr", "weight_decay")
        return _hash({key: value for key, value in self.key().items() if key in shared})


@dataclass(frozen=True, kw_only=True)
class Product:
    """Every combination of these options, the rest as in `base`."""

    base: Cell
    methods: tuple[str, ...]
    fractions: tuple[float, ...]
    objectives: tuple[str, ...] = ("standard",)
    updates: tuple[int, ...]
    seeds: int

    def cells(self) -> list[Cell]:
        """Its cells, all methods of a seed together."""
        return [
            dataclasses.replace(self.base, method=m, fraction=f, objective=o, updates=u, seed=s)
            for s in range(self.seeds)
            for o in self.objectives
            for f in self.fractions
            for u in self.updates
            for m in self.methods
        ]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison as data: products of options."""

    name: str
    products: tuple[Product, ...]

    def cells(self) -> list[Cell]:
        """All cells, each once."""
        return list(dict.fromkeys(cell for product in self.products for cell in product.cells()))


def run_experiment(experiment: Experiment, out: Path, *, workers: int = 2, overwrite: bool = False) -> pa.Table:
    """Do every cell that is not done, in persistent worker processes of one thread each.

    A finished cell is a folder `cells/NAME` with `cell.json`: it is written beside its place and renamed. A second
    run does only what is missing.

    Returns:
        The results, a row a cell, attack and eps; they are in `results.parquet` too.

    Raises:
        UsageError: wrong use.
        GridError: some cells failed; the others are done.
    """
    cells = experiment.cells()
    missing = (
        [cell for cell in cells if not _done(out, cell)] if (out / "run.json").exists() and not overwrite else cells
    )
    with claim(out, experiment.name, {"experiment": experiment.name}, overwrite=overwrite) as run:
        for leftover in (out / "cells").glob(".*.tmp"):
            shutil.rmtree(leftover)
        scorings = list({cell.scoring_name: cell for cell in missing}.values())
        with _Pool(workers) as pool:
            failed = pool.run(score_cell, scorings, out, "scoring")
            lost = {scorings[place].scoring_name for place in failed}
            ready = [cell for cell in missing if cell.scoring_name not in lost]
            failed_cells = pool.run(run_cell, ready, out, "cells")
        table = collect(out, cells)
        write_table(table, out / "results.parquet")
        failures = [*failed.values(), *failed_cells.values()]
        if failures:
            count = len(failed_cells) + len(missing) - len(ready)
            raise GridError(f"{count} of {len(cells)} cells failed; the first: {failures[0]}; run again to retry them")
        run.finish(summary={"cells": len(cells), "computed": len(missing)})
    return table


def score_cell(cell: Cell, out: Path) -> None:
    """Do the scoring run that a cell needs; its seed is 1000 above, so that no model is scored and attacked alike."""
    score(data=cell.data, model=cell.model, epochs=cell.scoring_epochs, batch_size=cell.batch_size, lr=cell.lr,
          weight_decay=cell.weight_decay, seed=1000 + cell.seed, keep_checkpoints=False, threads=1,
          out=out / "scores" / cell.scoring_name)  # fmt: skip


def run_cell(cell: Cell, out: Path) -> None:
    """Select, train and evaluate one cell."""
    if _done(out, cell):
        return
    started = time.monotonic()
    work = out / "cells" / f".{cell.name}.{os.getpid()}.tmp"
    coreset = work / "coreset.parquet"
    kept = select(scores=scores_file(out / "scores" / cell.scoring_name, "train"), method=cell.method,
                  fraction=cell.fraction, seed=cell.seed, out=coreset)  # fmt: skip
    train(data=cell.data, model=cell.model, coreset=coreset, objective=cell.objective, epochs=cell.epochs,
          updates=cell.updates, batch_size=cell.batch_size, lr=cell.lr, weight_decay=cell.weight_decay,
          schedule=cell.schedule, seed=cell.seed, threads=1, out=work / "model")  # pyright: ignore[reportArgumentType]  # fmt: skip
    result = evaluate(data=cell.data, weights=work / "model", attack=cell.attack, norm=cell.norm, eps=cell.eps,  # pyright: ignore[reportArgumentType]
                      limit=cell.limit, seed=cell.seed, threads=1, out=work)  # fmt: skip
    record = {"schema_version": SCHEMA_VERSION, "options": dataclasses.asdict(cell), "kept": len(kept),
              "class_counts": kept.provenance["class_counts"], "seconds": round(time.monotonic() - started, 2),
              **result.summary(), "versions": versions()}  # fmt: skip
    write_json(work / "cell.json", record)
    work.rename(out / "cells" / cell.name)


def collect(out: Path, cells: Sequence[Cell]) -> pa.Table:
    """The results of the finished cells, a row a cell, attack and eps."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if not _done(out, cell):
            continue
        record = read_json(out / "cells" / cell.name / "cell.json")
        common = {"cell": cell.name} | {name: getattr(cell, name) for name in RESULT_OPTIONS}
        common |= {"kept": record["kept"], "clean": record["clean"]["accuracy"], "seconds": record["seconds"]}
        for line in (*record["attacked"], *(record["worst"] if len(cell.attack) > 1 else ())):
            rows.append(
                common | {key: line[key] for key in ("attack", "norm", "eps", "accuracy", "low", "high", "samples")}
            )
    return pa.Table.from_pylist(rows)


def _done(out: Path, cell: Cell) -> bool:
    return (out / "cells" / cell.name / "cell.json").exists()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Pool:
    """Persistent worker processes; a cell whose worker died is tried again in a fresh pool."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> "_Pool":
        self._pool = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=error[0] is None, cancel_futures=True)

    def _open(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, context, initializer=_begin_worker, initargs=(os.getpid(),))

    def run(self, work: Callable[[Cell, Path], None], cells: Sequence[Cell], out: Path, label: str) -> dict[int, str]:
        """Do all `cells`; returns what failed, place -> reason."""
        tries, failed = dict.fromkeys(range(len(cells)), 0), dict[int, str]()
        waiting = list(tries)
        with progress(label, len(cells)) as bar:
            while waiting:
                futures: dict[Future, int] = {}
                for place in waiting:
                    futures[self._pool.submit(_guarded, work, cells[place], out)] = place
                waiting = []
                for future in as_completed(futures):
                    place = futures[future]
                    try:
                        reason = future.result()
                    except BrokenProcessPool:
                        tries[place] += 1
                        reason = "its worker process died"
                        if tries[place] < TRIES:
                            waiting.append(place)
                            continue
                    if reason is not None:
                        failed[place] = (
                            f"{cells[place].method} at {cells[place].fraction:g}, seed {cells[place].seed}: {reason}"
                        )
                    bar.advance()
                if waiting:
                    log.warning("a worker process died; %d cells are tried again", len(waiting))
                    self._pool.shutdown(wait=False)
                    self._pool = self._open()
        return failed


def _guarded(work: Callable[[Cell, Path], None], cell: Cell, out: Path) -> str | None:
    """Do one cell in a worker; a failure comes home as a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EasycoresetWarning)  # class counts and checks are in cell.json
            work(cell, out)
    except (UsageError, RuntimeError, OSError) as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return None


def _begin_worker(parent: int) -> None:
    """One thread, and an end when the parent is gone, also when it was killed."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
