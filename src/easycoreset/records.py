"""Read the JSON records of commands and check them against their schemas."""

import json
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError, quote
from easycoreset.files import read_json
from easycoreset.schemas import NonEmptyList, Nullable, check_record

MAX_LINES = 10**6  # lines of a history, at most
PAIR = (float, float)
LINE = {
    "attack": str,
    "norm": str,
    "eps": float,
    "accuracy": float,
    "low": float,
    "high": float,
    "samples": int,
    "stages?": {str: float},
}
CHECK = {"name": str, "figure": float, "passed": bool, "message": str}
MARGINS = {"attack": str, "norm": str, "samples": int, "found": float, "median_upper_bound": Nullable(float)}
CALIBRATION = {"samples": int} | dict.fromkeys(
    ("temperature", "confidence", "error", "calibrated_confidence", "calibrated_error"), Nullable(float)
)
EVALUATION = {
    "data": str,
    "split": str,
    "samples": int,
    "model?": Nullable(str),
    "clean": LINE,
    "attacked": [LINE],
    "worst": [LINE],
    "checks": [CHECK],
    "warnings": [str],
    "margins?": [MARGINS],
    "attacks?": {str: {str: object}},
    "classes?": [{"class": str, "samples": int, "accuracy": float, "low": float, "high": float, "worst": [float]}],
    "calibration?": CALIBRATION,
    "balanced_accuracy?": float,
    "worst_class?": str,
    "confusions?": [{"label": str, "predicted": str, "count": int}],
}
BASE = {
    "schema_version?": int,
    "command?": str,
    "command_line?": Nullable(str),
    "status?": str,
    "options?": {str: object},
    "versions?": {str: object},
    "provenance?": {str: object},
}
CUT = {"k": int, "precision": float, "recall": float}
AUDIT = {
    "samples": {str: int},
    "by": str,
    "issues": {str: {str: int}},
    "likely_mislabelled": int,
    "duplicates_with_another_label": int,
    "unreadable": [str],
    "held_out?": bool,
    "judge": {
        "kind": {"folds", "epochs", "features"},
        "accuracy": float,
        "skill": float,
        "accuracy_per_class": {str: Nullable(float)},
        "weak_classes": [str],
        "scale": float,
        "expected_wrong": float,
        "expected_precision": Nullable(float),
    },
    "noise?": {"wrong": int, "columns": {str: [CUT]}},
}
PLANNED = dict.fromkeys(("method", "against", "data", "objective"), str) | {
    "kind": {"matched clean", "equal updates"},
    "model": Nullable(str),
    "fraction": float,
    "eps": float,
    "size": int,
    "unit": {"updates", "epochs"},
    "frontier": [int],
    "seeds": [int],
    "cells?": [str],
    "variant?": str,
    "scoring?": str,
}
START = dict.fromkeys(("cells", "done"), int) | {
    "seeds": [int],
    "time": str,
    "name": str,
    "products?": [{str: object}],
    "command_line": Nullable(str),
    "versions": {str: str},
    "rows": [str],
    "declared": [{"contrast": PLANNED, "primary": bool, "evaluated": int}],
    "again?": {"times": int, "time": str},
    "overwritten?": str,
}
RUN = BASE | {
    "summary?": {str: object},
    "given?": {"data?": str, "image_size?": Nullable(int)},
    "started?": str,
}
PLAN_CELL = dict.fromkeys(("name", "data", "model", "method", "objective", "variant"), str) | {
    "fraction": float,
    "main_eps": float,
    "epochs": Nullable(int),
    "updates": Nullable(int),
    "seed": int,
    "options": {str: object},
    "classes": [int],
    "superseded": bool,
    "scoring": Nullable(str),
    "steps": {str: str},
    "evaluations": [{"key": str, "attack": str, "eps": float, "strong": bool, "surrogate?": str}],
    "beyond?": [{"key": str, "corruptions": [str], "certify": [str]}],
}
BINS = {"robust": float, "robust_interval": PAIR, "flip_rate": Nullable(float), "flip_interval": Nullable(PAIR)}
VULNERABILITY = {
    "hardness": str,
    "attacked": str,
    "split": str,
    "eps": float,
    "spearman": Nullable(float),
    "bins": NonEmptyList(BINS),
}
MARGIN = {
    "hardness": str,
    "attacked": str,
    "split": str,
    "spearman": Nullable(float),
    "interval": Nullable(PAIR),
    "samples": int,
    "bins": [{"mean": float}],
}
MATRIX = {"names": [str], "spearman": [[Nullable(float)]], "overlap_30": [[Nullable(float)]]}
EARLY = dict.fromkeys(("first", "every"), Nullable(int)) | {
    "epochs": int,
    "spearman": Nullable(float),
    **{f"overlap_{share}": Nullable(float) for share in (10, 30, 50)},
}
TRANSFER = {"model": str, "method": str, "fraction": float, "updates": int, "clean": LINE, "worst": [LINE]}
MODELS = {"coreset", "random", "all"}  # of `run`, by what they were trained on
TRAINED = {
    "trained_on": MODELS,
    "objective": str,
    "clean": LINE,
    "worst": [LINE],
    "warnings": [str],
}
GAIN = {"eps": float, "difference": float, "low": float, "high": float, "p": float}
COMPARED = {"accuracy": float, "before": float, "difference": float, "low": float, "high": float, "p": float}
EARLIER = {
    **dict.fromkeys(("matched", "gone", "new", "relabelled", "samples"), int),
    "seen": int,
    "unscored": {"all": int, "coreset": int, "random": int},
    "clean": COMPARED,
    "worst": [{"eps": float, **COMPARED}],
    "by_class": [{"class": str, "samples": int, **COMPARED}],
}
RECORDS: dict[str, Any] = {
    "run.json": RUN,
    "evaluation.json": BASE | {"summary?": EVALUATION},
    "plan.json": BASE
    | {"started?": str, "summary?": {str: object}, "starts?": [START], "cells?": [PLAN_CELL], "steps?": {str: str}},
    "step.json": {"kind": str, "title": str, "seconds": float, "host": str, "files": {str: int}, "inputs": {str: str}},
    "comparison.json": {
        "rows": NonEmptyList(TRAINED),
        "against?": {str: NonEmptyList(GAIN)},
        "earlier?": EARLIER,
        "recommended?": {"clean": MODELS, "robust": MODELS, "eps": float, "gains": NonEmptyList(GAIN)},
        "classes?": [{"class": str, "before": int, "after": int}],
        "method": str,
        "fraction": float,
        "per_class": bool,
        "command?": str,
        "updates": int,
        "epochs": int,
        "model": str,
    },
    "analysis.json": {
        "data": str,
        "model": str,
        "scored_by": str,
        "vulnerability": NonEmptyList(VULNERABILITY),
        "margins": [MARGIN],
        "agreement": {str: MATRIX},
        "early": [EARLY],
        "transfer": [TRANSFER],
    },
    "contrasts.json": {"schema_version": int, "contrasts": [{str: object}]},
    "features.json": {"kinds": {str: {str: object}}, "split?": str, "fingerprint?": str, "layer?": str, "bias?": bool},
    "model.json": {
        "model": str,
        "shape": (int, int, int),
        "mean": [float],
        "std": [float],
        "class_names": NonEmptyList(str),
        "eps?": Nullable(float),
        "provenance?": {"options?": {str: object}, "fingerprint?": str},
        "trained_on?": Nullable({"split": str, "fingerprint": str, "samples": int, "hashes?": str, "in_order?": bool}),
        "temperature?": Nullable(float),
        "schema_version?": int,
    },
    "history.jsonl": {
        "epoch": int,
        "loss": Nullable(float),
        "updates?": int,
        "lr?": Nullable(float),
        "seconds?": Nullable(float),
        "val_clean?": float,
        "val_robust?": float,
        "train_robust?": float,
    },
    "export.json": BASE | {"contents?": str},
    "tracking.json": {str: str},
}
TRAINING = dict.fromkeys(("model", "data", "objective"), str) | {
    "samples": int,
    "updates": int,
    "loss": Nullable(float),
    "seconds": float,
}
CHECKPOINTS = {"model": str, "data": str, "samples": int, "checkpoints": [str]}
SUMMARY_SCHEMAS = {  # the schema of a finished run's summary, by command
    "audit": AUDIT,
    "train": TRAINING,
    "score": TRAINING,
    "predict": {"counts": {str: int}},
}
PROVENANCE = {
    "class_names?": [str],
    "split?": str,
    "fingerprint?": str,
    "data?": str,
    "shape?": (int, int, int),
    "method?": str,
    "mode?": str,
    "fraction?": float,
    "seed?": int,
    "model?": str,
    "objective?": str,
    "options?": {str: object},
    "labels?": str,
    "class_counts?": {"before": [int], "after": [int]},
    "count?": int,
    "matched?": {str: object},
}
# The schema of the record that `select` writes beside a coreset.
COMMANDS = BASE | {"options?": {"scores?": str}, "written?": [str]}


def read_record(path: Path) -> dict[str, Any]:
    """Read a record and check it by its file name; any other name is a record of `select`.

    Raises:
        UsageError: the file is missing, is not a JSON object, or does not match its schema.
    """
    record = read_json(path)
    check_record(record, RECORDS.get(path.name, COMMANDS), str(path))
    command = record.get("command")
    if path.name == "run.json" and "summary" in record and command in SUMMARY_SCHEMAS:
        by_checkpoints = command == "score" and "checkpoints" in record["summary"]
        check_record(record["summary"], CHECKPOINTS if by_checkpoints else SUMMARY_SCHEMAS[command], f"{path}: summary")
    if not _lengths_match(path.name, record):
        raise UsageError(f"{path}: the lengths of its lists do not match")
    return record


def _lengths_match(name: str, record: dict[str, Any]) -> bool:
    """Whether lists that belong together have the same length."""
    if name == "analysis.json":
        matrices = record["agreement"].values()
        sizes = [(len(m["names"]), m[key]) for m in matrices for key in ("spearman", "overlap_30")]
        is_square = all(len(matrix) == n and all(len(row) == n for row in matrix) for n, matrix in sizes)
        return is_square and bool(record["agreement"]) and len({len(row["worst"]) for row in record["transfer"]}) < 2
    if name == "comparison.json":
        return len({len(row["worst"]) for row in record["rows"]}) == 1
    return True


def read_summary(path: Path) -> dict[str, Any]:
    """Read the summary of a finished run's record.

    Raises:
        UsageError: as for `read_record`, or the run is not finished.
    """
    record = read_record(path)
    if "summary" not in record:
        raise UsageError(f"{path}: the run is not finished")
    return record["summary"]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a history, one object per epoch.

    Raises:
        UsageError: the file is missing, or a line is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines[:MAX_LINES]]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: a line is damaged: {quote(str(error))}") from None
    for number, entry in enumerate(entries, 1):
        check_record(entry, RECORDS["history.jsonl"], f"{path}: line {number}")
    return entries
