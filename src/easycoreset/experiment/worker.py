"""The work of a worker process: one scoring run, or one cell (one training), from selection to evaluation."""

import contextlib
import dataclasses
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from easycoreset.console import log, silence
from easycoreset.data.unscored import unscored_table
from easycoreset.errors import EasycoresetWarning, OtherRunError
from easycoreset.evaluation import evaluate
from easycoreset.evaluation.checks import LONGER_ATTACK
from easycoreset.experiment.cells import TRAINING_ONLY, Cell, parse_strong_attack
from easycoreset.experiment.results import cell_folder, has_columns, is_done, scores_folder
from easycoreset.experiment.tasks import RunSettings, Task
from easycoreset.file_lists import STATE_MARK, STEP_MARK, FileList, delete_run, delete_written
from easycoreset.files import SCHEMA_VERSION, make_folder, process_name, write_json
from easycoreset.hardness import CHEAP, HARDNESS, load_hardness
from easycoreset.locks import open_lock
from easycoreset.memory import measure_peak
from easycoreset.models import user_factory
from easycoreset.options import (
    ComputeOptions,
    ModelOptions,
    ScoringOptions,
    TrainingOptions,
    ValidationOptions,
    resolve_optimizer,
    values_of,
)
from easycoreset.options.comparing import FULL
from easycoreset.parquet import read_shape, read_table, write_table
from easycoreset.records import read_history, read_summary
from easycoreset.run_folders import RUN_RECORD, discard_step, open_step_folder
from easycoreset.scoring import score, scores_file
from easycoreset.scoring.needs import FeatureKind
from easycoreset.selection import choose
from easycoreset.statistics.outcomes import STRONG_FILE
from easycoreset.tables import Coreset, Scores
from easycoreset.tables.coreset import find_lost_classes
from easycoreset.training import train
from easycoreset.training.setup import open_data
from easycoreset.versions import versions

CELL_RECORD = "cell.json"
EVALUATION_RECORD = "evaluation.json"
T = TypeVar("T")


class TaskReport(NamedTuple):
    """How a task ended: done, busy (another process holds it) or failed."""

    status: str
    reason: str = ""


def run_task(task: Task, settings: RunSettings) -> TaskReport:
    """Run one task in a worker, unless another process holds it; a failure is returned as a message."""
    silence()
    out = settings.out
    cell = task.cell
    with lock_task(task, out) as acquired, warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)  # the warnings are written to cell.json
        if not acquired:
            return TaskReport("busy")
        try:
            if task.kind == "score":
                score_cell(cell, settings, task.features, task.hardness)
            elif not is_done(out, cell):
                run_cell(cell, settings)
        except (Exception, SystemExit) as error:  # a user's own selector or model may raise anything
            return TaskReport("failed", f"{type(error).__name__}: {error}".replace("\n", " "))
    return TaskReport("done")


@contextlib.contextmanager
def lock_task(task: Task, out: Path) -> Iterator[bool]:
    """Lock a task against other processes; yields False if another process holds it."""
    with FileList(out, RUN_RECORD).active() as file_list:
        file = out / "locks" / f"{task.kind}-{task.name}"
        file_list.require_no_links(file)
        make_folder(file.parent)
        lock = open_lock(file)
        try:
            if lock.created:
                file_list.add(file, STATE_MARK)
            if lock.is_exclusive and not (task.kind == "cell" and is_done(out, task.cell)):
                os.lseek(lock.descriptor, 0, os.SEEK_END)
                os.write(lock.descriptor, f"{process_name()}\n".encode())  # a line for each start, naming the process
            yield lock.is_exclusive
        finally:
            os.close(lock.descriptor)


def score_cell(cell: Cell, settings: RunSettings, features: FeatureKind | None, hardness: tuple[str, ...]) -> None:
    """Run the scoring of a cell: the cheap hardness, and the `hardness` that cells with these scores need.

    The model that scores has another seed (1000 + the cell's) than the model that is attacked.
    """
    folder = scores_folder(settings.out, cell)
    file = scores_file(folder, "train")
    cheap = {measure.name for measure in load_hardness(())}  # () means all cheap ones
    existing = [name for name in read_shape(file)[0] if name in HARDNESS] if file.exists() else []
    expensive = sorted({*hardness, *existing} - cheap)  # a new file keeps the columns of an old one
    requested = (CHEAP, *expensive) if expensive else ()  # as in records of scores without expensive columns
    if file.exists() and not has_columns(file, cell):
        discard_step(folder, RUN_RECORD)
    _redo_if_outdated(
        folder,
        RUN_RECORD,
        lambda: score(
            **settings.step_options(cell),
            **_scoring_options(cell),
            epochs=cell.scoring_epochs,
            seed=1000 + cell.seed,
            hardness=requested,
            keep_checkpoints=settings.keep_weights,
            checkpoint_minutes=1,
            save_features=features,
            out=folder,
        ),
    )


def _scoring_options(cell: Cell) -> dict[str, Any]:
    """The options of a cell's scoring run: those of the cell, except its schedule and weight average."""
    options = values_of(cell, ModelOptions) | values_of(cell, TrainingOptions) | values_of(cell, ScoringOptions)
    return {name: value for name, value in options.items() if name not in TRAINING_ONLY}


def _redo_if_outdated(folder: Path, record_file: str, compute: Callable[[], T]) -> T:
    """Call `compute`; if `folder` holds the result of other options or of an older version, delete it and retry."""
    try:
        return compute()
    except OtherRunError as error:
        log.info("%s; it is computed again", error)
        discard_step(folder, record_file)
        return compute()


def run_cell(cell: Cell, settings: RunSettings) -> None:
    """Select, train and evaluate one cell in a temporary folder, and rename it; resumes after a killed worker."""
    started = time.monotonic()
    out = settings.out
    folder = cell_folder(out, cell)
    work = folder.with_name(f".{cell.name}.tmp")
    if work.exists() and not FileList(work, CELL_RECORD).exists():  # left by a version that kept no file list
        discard_step(work, CELL_RECORD)
    with open_step_folder(work, CELL_RECORD):
        if not (work / CELL_RECORD).exists():  # it exists if a worker was killed while it cleaned up
            _fill_cell(cell, settings, work, started)
        _clean_up(work, settings.keep_weights)
    FileList(out, RUN_RECORD).add(folder, f"{STEP_MARK}{CELL_RECORD}")
    work.rename(folder)


def _fill_cell(cell: Cell, settings: RunSettings, work: Path, started: float) -> None:
    """Select, train and evaluate one cell in `work`, and write its record."""
    facts = _select(cell, settings, work)
    coreset = None if cell.method == FULL else work / "coreset.parquet"
    _redo_if_outdated(
        work / "model",
        RUN_RECORD,
        lambda: train(
            **settings.step_options(cell),
            **values_of(cell, ModelOptions),
            **values_of(cell, TrainingOptions),
            **values_of(cell, ValidationOptions),
            coreset=coreset,
            objective=cell.objective,
            epochs=cell.epochs,
            updates=cell.updates,
            seed=cell.seed,
            checkpoint_minutes=1,
            out=work / "model",
        ),
    )
    trained = time.monotonic()
    record = facts | _validation(cell, work) | _evaluate(cell, work, settings)
    record["warnings"] = [*_empty_class_warnings(facts["class_counts"]), *record["warnings"]]
    seconds = {
        "seconds": round(time.monotonic() - started, 2),
        "evaluation_seconds": round(time.monotonic() - trained, 2),
    }
    write_json(
        work / CELL_RECORD,
        {
            "schema_version": SCHEMA_VERSION,
            "options": dataclasses.asdict(cell) | resolve_optimizer(cell),
            **record,
            **seconds,
            "host": platform.node(),
            "versions": versions(),
        },
    )


def _empty_class_warnings(counts: dict[str, list[int]]) -> list[str]:
    """A warning if the coreset has no sample of some classes."""
    emptied, _ = find_lost_classes(np.array(counts["before"]), np.array(counts["after"]))
    return [f"the coreset holds no sample of {len(emptied)} of {len(counts['before'])} classes"] if len(emptied) else []


def _validation(cell: Cell, work: Path) -> dict[str, Any]:
    """The accuracies on the validation samples after the last epoch."""
    if cell.val_fraction is None:
        return {}
    last_epoch = read_history(work / "model" / "history.jsonl")[-1]
    return {"validation": {name: last_epoch[name] for name in ("val_clean", "val_robust")}}


def _clean_up(work: Path, keep_weights: bool) -> None:
    """Delete intermediate files of a cell whose record is written."""
    if not keep_weights:
        delete_run(work / "model", RUN_RECORD)
        delete_written(work / "coreset.parquet")
    for folder in work.glob("evaluation-*"):
        delete_run(folder, EVALUATION_RECORD)


def _select(cell: Cell, settings: RunSettings, work: Path) -> dict[str, Any]:
    """Write the cell's coreset; returns its entries in `cell.json`."""
    if cell.needs_scores:
        scores = Scores.read(scores_file(scores_folder(settings.out, cell), "train"))
    else:
        _, source = open_data(ComputeOptions(**settings.step_options(cell), out=work))
        scores = unscored_table(source)
    if cell.method == FULL:
        counts = np.bincount(scores.labels).tolist()
        return {
            "kept": len(scores),
            "class_counts": {"before": counts, "after": counts},
            "selection_seconds": 0.0,
            "fingerprint": scores.provenance["fingerprint"],
        }

    def choose_timed() -> tuple[Coreset, float]:
        start = time.monotonic()
        selected = choose(
            scores, method=cell.method, fraction=cell.fraction, seed=cell.seed, val_fraction=cell.val_fraction
        )
        return selected, round(time.monotonic() - start, 3)

    (coreset, seconds), peak = measure_peak(choose_timed)
    coreset.write(work / "coreset.parquet")
    sample_weights = coreset.weight[coreset.keep]
    return {
        "kept": len(coreset),
        "class_counts": coreset.provenance["class_counts"],
        "selection_seconds": seconds,
        "selection_mb": peak,
        "weights": [float(sample_weights.min()), float(sample_weights.max())],
        "fingerprint": scores.provenance["fingerprint"],
    }


def _evaluate(cell: Cell, work: Path, settings: RunSettings) -> dict[str, Any]:
    """Evaluate at the main eps on all test images and at the other eps on a subset; writes one table of outcomes.

    The seed is 0 in every cell, so that all cells are evaluated on the same images and from the same random starts.
    """
    parts = [(cell.eps, cell.limit)]
    if cell.main_eps is not None:
        others = tuple(eps for eps in cell.eps if eps != cell.main_eps)
        parts = [((cell.main_eps,), None)] + ([(others, cell.limit)] if others else [])
    tables: list[pa.Table] = []
    summaries: list[dict[str, Any]] = []

    def evaluate_part(name: str, attack: Sequence[str], radii: tuple[float, ...], limit: int | None) -> dict[str, Any]:
        folder = work / name
        _redo_if_outdated(
            folder,
            EVALUATION_RECORD,
            lambda: evaluate(
                **settings.step_options(cell),
                weights=work / "model",
                model=user_factory(cell.model),
                attack=attack,
                norm=cell.norm,
                eps=radii,
                limit=limit,
                seed=0,
                out=folder,
            ),
        )
        return read_summary(folder / EVALUATION_RECORD)

    for part, (eps, limit) in enumerate(parts):
        summaries.append(evaluate_part(f"evaluation-{part}", cell.attack, eps, limit))
        table = read_table(work / f"evaluation-{part}" / "predictions.parquet", {"index": "integer", "broken": "bool"})
        tables.append(table if part == 0 else table.filter(pc.field("attack") != "clean"))
    write_table(_narrow_integers(pa.concat_tables(tables)), work / "predictions.parquet")
    strong = _evaluate_strong(cell, work, evaluate_part)
    longer, dropped_messages = _merge_longer_attacks(summaries)
    messages = [text for summary in (*summaries, *strong) for text in summary["warnings"]]
    return {
        "clean": summaries[0]["clean"],
        "attacked": [entry for summary in summaries for entry in summary["attacked"]],
        "worst": [entry for summary in summaries for entry in summary["worst"]],
        "strong": [entry for summary in strong for entry in summary["attacked"]],
        "checks": [check for check in summaries[0]["checks"] if check["name"] != LONGER_ATTACK] + longer,
        "attacks": {
            name: fields for summary in (*summaries, *strong) for name, fields in summary.get("attacks", {}).items()
        },
        "warnings": [text for text in dict.fromkeys(messages) if text not in dropped_messages],
    }


def _evaluate_strong(cell: Cell, work: Path, evaluate_part: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the strong attacks at the eps of contrasts, and write their outcomes on each image to `STRONG_FILE`."""
    summaries: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    main_limit = (
        cell.limit if cell.main_eps is None else None
    )  # of images at the eps of contrasts; None: all test images
    for attack, limit in map(parse_strong_attack, cell.strong):
        if main_limit is not None:
            limit = main_limit if limit is None else min(main_limit, limit)
        name = f"evaluation-strong-{len(summaries)}"
        summaries.append(evaluate_part(name, (attack,), (cell.contrast_eps,), limit))
        table = read_table(work / name / "predictions.parquet", {"index": "integer", "broken": "bool"})
        tables.append(table.filter(pc.field("attack") != "clean"))
    if tables:
        write_table(_narrow_integers(pa.concat_tables(tables)), work / STRONG_FILE)
    return summaries


def _narrow_integers(outcomes: pa.Table) -> pa.Table:
    """Outcomes with narrower integer types."""
    for name, kind in {"index": pa.int32(), "label": pa.int16(), "pred": pa.int16()}.items():
        outcomes = outcomes.set_column(outcomes.column_names.index(name), name, outcomes[name].cast(kind))
    return outcomes


def _merge_longer_attacks(summaries: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], set[str]]:
    """Of all checks against a longer attack, the one to keep (a failed one if any), and the messages of the others."""
    checks = [check for summary in summaries for check in summary["checks"] if check["name"] == LONGER_ATTACK]
    kept = sorted(checks, key=lambda check: check["passed"])[:1]
    return kept, {check["message"] for check in checks if check not in kept}
