"""The report of a training run and of an evaluation, and how to reproduce them."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from easycoreset.documents import DataTable, Figure, SampleImage, Section
from easycoreset.documents.plots import axes_layout, line_trace
from easycoreset.documents.summaries import describe_outcomes, describe_run_summary
from easycoreset.parquet import read_provenance, read_table, require_columns
from easycoreset.records import read_history, read_record
from easycoreset.reporting.dynamic_methods import describe_sampling

MAX_WRONG = 500  # misclassified samples that are listed
CORRUPTED_COLUMNS = {"corruption": "text", "severity": "integer", "png": "binary?"}
WRONG_COLUMNS = {"sample_id": "text", "label": "integer", "pred": "integer", "attack": "text", "broken": "bool"}


def describe_training(folder: Path) -> list[Section]:
    """What was trained, and its loss over epochs."""
    history = read_history(folder / "history.jsonl")
    numbers = [entry["epoch"] for entry in history]
    traces = [line_trace("training loss", 0, numbers, [entry["loss"] for entry in history])]
    summary = read_record(folder / "run.json").get("summary") if (folder / "run.json").exists() else None
    text = [] if summary is None else [describe_run_summary(summary)]
    plot = Figure("training loss by epoch", traces, axes_layout("epoch", "loss"))
    training = Section("Training", text, figures=[plot], brief=True)
    return [training, *(describe_sampling(summary, history) if summary is not None else [])]


def describe_evaluation(folder: Path, of: str = "") -> list[Section]:
    """Accuracy over eps with intervals, and all checks; titles name the model if its name `of` is given."""
    summary = read_record(folder / "evaluation.json").get("summary")
    if summary is None:
        return [Section("Evaluation", ["The evaluation is not finished yet."])]
    sections = [
        *describe_outcomes(summary),
        *show_corruptions(folder / "corruptions.parquet"),
        *describe_wrong_samples(folder / "predictions.parquet"),
    ]
    return [replace(section, title=f"{section.title}: {of}") for section in sections] if of else sections


def show_corruptions(file: Path) -> list[Section]:
    """One image under each corruption; nothing where none was measured."""
    table = read_table(file, {}) if file.exists() else None
    if table is None or not set(CORRUPTED_COLUMNS) <= set(table.column_names):
        return []
    require_columns(table, file, CORRUPTED_COLUMNS)
    galleries: dict[str, list[SampleImage]] = {}
    for line in table.select(list(CORRUPTED_COLUMNS)).filter(pc.field("png").is_valid()).to_pylist():
        url = "data:image/png;base64," + base64.b64encode(line["png"]).decode()
        galleries.setdefault(line["corruption"], []).append(SampleImage(url, f"severity {line['severity']}"))
    text = ["One image under each of them."]
    return [Section("What the corruptions look like", text, galleries=dict(galleries), collapsed=True)]


def describe_wrong_samples(file: Path) -> list[Section]:
    """The samples that are misclassified without an attack, by name; nothing of tables without names."""
    table = read_table(file, {}) if file.exists() else None
    if table is None or not set(WRONG_COLUMNS) <= set(table.column_names):
        return []
    require_columns(table, file, WRONG_COLUMNS)
    names = dict(enumerate(read_provenance(table, file, None).get("class_names", [])))
    rows = [
        [line["sample_id"], names.get(line["label"], line["label"]), names.get(line["pred"], line["pred"])]
        for line in table.select(list(WRONG_COLUMNS)).to_pylist()
        if line["attack"] == "clean" and line["broken"]
    ]
    more = [f"Shown are the first {MAX_WRONG} of {len(rows)}."] if len(rows) > MAX_WRONG else []
    listed = DataTable("samples that are misclassified", ["sample", "label", "predicted"], rows[:MAX_WRONG])
    return [Section("Misclassified samples", more, tables=[listed], collapsed=True)] if rows else []


def describe_reproduction(folder: Path) -> list[Section]:
    """How to reproduce it: command, options, versions, fingerprint."""
    blocks: list[str] = []
    for name in ("plan.json", "run.json", "evaluation.json"):
        if not (folder / name).exists():
            continue
        record = read_record(folder / name)
        starts = [start["command_line"] for start in record.get("starts", ()) if start.get("command_line")]
        command = "\n".join(starts or [record.get("command_line") or f"easycoreset {record.get('command', '')}"])
        facts: dict[str, Any] = {
            key: record[key] for key in ("options", "versions", "started", "finished") if key in record
        }
        blocks.append(f"{command}\n\n{json.dumps(facts, indent=1)}")
    return [Section("How to reproduce it", code="\n\n".join(blocks), collapsed=True)] if blocks else []
