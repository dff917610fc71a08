"""The folder of a plan: `plan.json`, and a folder for each step in `steps/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError, quote
from easycoreset.files import SCHEMA_VERSION
from easycoreset.folder_access import PLAN_RECORD
from easycoreset.records import read_history, read_record, read_summary

STEPS_FOLDER = "steps"
STEP_RECORD = "step.json"
RUN_MODELS = {"coreset": "model", "random": "random", "all": "all"}  # of `run`: model -> link to its folder
TRAINED_ON = {"coreset": "the coreset", "random": "as many random samples", "all": "all samples"}  # these, in words
COMPARISON = "comparison.json"  # of `run`: the comparison of its models
RESULTS = "results.parquet"
CHECKPOINT = "evaluate.checkpoint"  # the option of a cell that says which epoch is evaluated
SPLIT = "evaluate.split"  # and which images
IMAGES_OF = {"train": "training images", "val": "held-out training images", "test": "test images"}


def step_folder(out: Path, kind: str, key: str) -> Path:
    """The folder of a step."""
    return out / STEPS_FOLDER / f"{kind}-{key}"


def read_plan(folder: Path) -> dict[str, Any]:
    """The record of a plan; empty where there is none.

    Raises:
        UsageError: it is damaged, or has another schema version.
    """
    file = folder / PLAN_RECORD
    record = read_record(file) if file.exists() else {}
    if record.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        version = quote(record["schema_version"])
        raise UsageError(f"{file}: schema_version must be {SCHEMA_VERSION}; got {version}")
    return record


def read_cell(folder: Path, cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the finished steps of a cell say; None until its training and main evaluation are done.

    Args:
        folder: the plan's folder.
        cell: the cell as `plan.json` describes it.

    Returns:
        The cell's description with `chosen` and `trained` (the summaries of both steps), `validation` (the
        accuracies after the evaluated epoch), `evaluated` (the summary of each finished evaluation, with its `key` and
        whether it is `strong`), `beyond` (likewise, of corruptions and certificates), `training_options`,
        `scoring_options`, `seconds` and `host`.
    """
    trained = step_folder(folder, "train", cell["steps"]["train"])
    if not (trained / STEP_RECORD).exists():
        return None
    evaluated: list[dict[str, Any]] = []
    seconds = 0.0
    for entry in cell["evaluations"]:
        place = step_folder(folder, "evaluate", entry["key"])
        if (place / STEP_RECORD).exists():
            summary = read_summary(place / "evaluation.json")
            evaluated.append({**summary, **entry})
            seconds += read_record(place / STEP_RECORD)["seconds"]
    beyond: list[dict[str, Any]] = []
    for entry in cell.get("beyond", ()):
        place = step_folder(folder, "evaluate", entry["key"])
        if (place / STEP_RECORD).exists():
            beyond.append({**read_summary(place / "evaluation.json"), "key": entry["key"]})
    if not any(entry["eps"] == cell["main_eps"] and not entry["strong"] for entry in evaluated):
        return None
    record = read_record(trained / STEP_RECORD)
    training = read_record(trained / "run.json")
    summary = read_summary(trained / "run.json")
    chosen: dict[str, Any] = {}
    if "select" in cell["steps"]:
        place = step_folder(folder, "select", cell["steps"]["select"])
        chosen = read_summary(place / "run.json")
        seconds += chosen["selection_seconds"]
    else:
        counts = cell["classes"]
        sampling = summary.get("sampling", {"mean_share": 1.0, "selection_seconds": 0.0})  # of a dynamic method
        kept = round(sampling["mean_share"] * summary["samples"])
        chosen = {"kept": kept, "class_counts": {"before": counts, "after": counts}}
        chosen |= {"selection_seconds": sampling["selection_seconds"], "weights": sampling.get("weights", (1.0, 1.0))}
    return {
        **cell,
        "chosen": chosen,
        "trained": summary,
        "training_options": training.get("options", {}),
        "scoring_options": _scoring_options(folder, cell),
        "validation": _validation(trained, summary, cell["options"]),
        "evaluated": evaluated,
        "beyond": beyond,
        "seconds": round(seconds + record["seconds"], 2),
        "host": record["host"],
    }


def _validation(trained: Path, summary: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, float]:
    """The accuracies on held-out samples after the epoch that is evaluated; empty without such samples."""
    if "val_fraction" not in options:
        return {}
    number = summary["best_epoch"] if options.get(CHECKPOINT) == "best" else summary["epochs"]
    line = read_history(trained / "history.jsonl")[number - 1]
    return {name: line[name] for name in ("val_clean", "val_robust")}


def _scoring_options(folder: Path, cell: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a cell's scoring run; empty where its method reads no scores."""
    if "score" not in cell["steps"]:
        return {}
    return read_record(step_folder(folder, "score", cell["steps"]["score"]) / "run.json").get("options", {})
