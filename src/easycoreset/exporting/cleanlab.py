"""A table of label issues with cleanlab's columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.errors import UsageError
from easycoreset.exporting.source_tables import TABLE_FILES, cast_dictionaries, read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.parquet import require_columns
from easycoreset.spreadsheet import write_csv as fill_csv
from easycoreset.tables import Scores

AUDIT_COLUMNS = ("sample_id", "label", "pred", "self_confidence", "likely_mislabelled")
COLUMN_KINDS = {
    "sample_id": "text",
    "label": "integer",
    "pred": "integer",
    "self_confidence": "number",
    "likely_mislabelled": "bool",
}
QUALITY_COLUMNS = ("label_quality", "label_score")  # the names in CleanLearning and in Datalab


def write_issues(options: ExportOptions) -> None:
    """Write label issues in cleanlab's columns: `is_label_issue`, quality in [0,1] (1 is clean), given, predicted.

    For an audit, the issues are its suspects, and the quality is the model's probability of the given label. For
    scores, the quality is exp(-loss), the geometric mean over the scored epochs of the probability of the given label;
    without the column loss, it is that probability in the last epoch. An issue is a quality below chance, 1 / classes.
    Scores have a predicted label if they were written with `score --save-features`. The model was trained on these
    samples, whereas cleanlab's estimates expect out-of-sample predictions.

    Raises:
        UsageError: the source has neither an audit nor scores, no labels, or scores without loss and probabilities.
    """
    tables = read_tables(options)
    if tables.audit is not None:
        table = find_audit_issues(cast_dictionaries(tables.audit))
    elif tables.scores is not None:
        table = find_score_issues(tables.scores)
    else:
        raise UsageError("source must be scores or an audit for format cleanlab; got a coreset without its scores")
    write_new(options.out, lambda path: fill_csv(table, path, options.raw))


def find_audit_issues(audit: pa.Table) -> pa.Table:
    """The suspects of `easycoreset audit`; the quality is the model's probability of the given label.

    Raises:
        UsageError: the table is not an audit.
    """
    missing = [name for name in AUDIT_COLUMNS if name not in audit.column_names]
    if missing:
        raise UsageError(f"source: the audit lacks {', '.join(missing)}, which format cleanlab needs")
    require_columns(audit, Path(TABLE_FILES["audit"]), COLUMN_KINDS)
    quality = np.asarray(audit["self_confidence"].to_numpy(zero_copy_only=False), np.float64)
    return pa.table(
        {
            "index": audit["index"],
            "sample_id": audit["sample_id"],
            "is_label_issue": audit["likely_mislabelled"],
            **dict.fromkeys(QUALITY_COLUMNS, pa.array(quality, mask=np.isnan(quality))),
            "given_label": audit["label"],
            "predicted_label": audit["pred"],
        }
    )


def find_score_issues(scores: Scores) -> pa.Table:
    """Label quality from the losses or probabilities that were recorded in training.

    Raises:
        UsageError: the labels were not given, or there is neither `loss` nor probabilities.
    """
    if scores.provenance.get("labels") == "not given":
        raise UsageError("source: format cleanlab needs labels: give them to recorder.scores(labels=...)")
    probabilities = None if scores.probabilities is None else np.asarray(scores.probabilities[:], np.float64)
    if "loss" in scores.columns:
        quality = np.exp(-scores["loss"].astype(np.float64))
    elif probabilities is not None:
        quality = probabilities[np.arange(len(scores)), scores.labels]
    else:
        raise UsageError("source: format cleanlab needs the column loss, or probabilities (score --save-features)")
    quality = np.clip(quality, 0.0, 1.0)
    columns: dict[str, Any] = {
        "index": np.arange(len(scores)),
        "sample_id": pa.array(scores.sample_ids, pa.string()),
        "is_label_issue": quality < 1 / len(scores.class_names),  # False for a sample never observed
        **dict.fromkeys(QUALITY_COLUMNS, pa.array(quality, mask=np.isnan(quality))),
        "given_label": scores.labels,
    }
    if probabilities is not None:
        columns["predicted_label"] = probabilities.argmax(1)
    return pa.table(columns)
