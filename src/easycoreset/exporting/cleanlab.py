"""An issue table as cleanlab's users know it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.errors import UsageError
from easycoreset.exporting.sources import FILES, plain, read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.parquet import require_columns
from easycoreset.spreadsheet import write_csv as fill_csv
from easycoreset.tables import Scores

AUDIT = ("sample_id", "label", "pred", "self_confidence", "likely_mislabelled")
KINDS = {
    "sample_id": "text",
    "label": "integer",
    "pred": "integer?",
    "self_confidence": "number?",
    "likely_mislabelled": "bool",
}
QUALITY = ("label_quality", "label_score")  # of CleanLearning, and of Datalab


def write_issues(options: ExportOptions) -> None:
    """Label issues as cleanlab's tables name them: `is_label_issue`, quality in [0,1] (1 is clean), given, predicted.

    Of an audit, what it suspects and the model's probability of the given label. Of scores, the quality is exp(-loss),
    the mean (geometric, over the scored epochs) of the probability of the given label, or without the column loss that
    probability in the last epoch; an issue is a quality below chance, 1 / classes. The predicted label is known where
    `score --save-features` was asked for. The model was trained on these samples: cleanlab's own estimates want
    predictions from outside the training set.

    Raises:
        UsageError: neither an audit nor scores, labels that were not given, or scores that say nothing of the label.
    """
    tables = read_tables(options)
    if tables.audit is not None:
        table = issues_of_audit(plain(tables.audit))
    elif tables.scores is not None:
        table = issues_of_scores(tables.scores)
    else:
        raise UsageError("source must be scores or an audit for format cleanlab; got a coreset without its scores")
    write_new(options.out, lambda path: fill_csv(table, path, options.raw))


def issues_of_audit(audit: pa.Table) -> pa.Table:
    """What `easycoreset audit` suspects, with the model's probability of the given label as its quality.

    Raises:
        UsageError: the table is no audit, or one without predictions.
    """
    missing = [name for name in AUDIT if name not in audit.column_names]
    if missing:
        raise UsageError(f"source: the audit lacks {', '.join(missing)}, which format cleanlab needs")
    require_columns(audit, Path(FILES["audit"]), KINDS)
    quality = np.asarray(audit["self_confidence"].to_numpy(zero_copy_only=False), np.float64)
    if not np.isfinite(quality).any():
        raise UsageError("source: the audit predicts nothing, for no model lay beside its scores: no quality is known")
    return pa.table(
        {
            "index": audit["index"],
            "sample_id": audit["sample_id"],
            "is_label_issue": audit["likely_mislabelled"],
            **dict.fromkeys(QUALITY, pa.array(quality, mask=np.isnan(quality))),
            "given_label": audit["label"],
            "predicted_label": audit["pred"],
        }
    )


def issues_of_scores(scores: Scores) -> pa.Table:
    """Label quality from what training saw of each sample.

    Raises:
        UsageError: labels that were not given, or neither `loss` nor probabilities.
    """
    if scores.provenance.get("labels") == "not given":
        raise UsageError("source: format cleanlab needs labels: give them to recorder.scores(labels=...)")
    known = None if scores.probabilities is None else np.asarray(scores.probabilities[:], np.float64)
    if "loss" in scores.columns:
        quality = np.exp(-scores["loss"].astype(np.float64))
    elif known is not None:
        quality = known[np.arange(len(scores)), scores.labels]
    else:
        raise UsageError("source: format cleanlab needs the column loss, or probabilities (score --save-features)")
    quality = np.clip(quality, 0.0, 1.0)
    columns: dict[str, Any] = {
        "index": np.arange(len(scores)),
        "sample_id": pa.array(scores.sample_ids, pa.string()),
        "is_label_issue": quality < 1 / len(scores.class_names),  # of a sample never observed, False
        **dict.fromkeys(QUALITY, pa.array(quality, mask=np.isnan(quality))),
        "given_label": scores.labels,
    }
    if known is not None:
        columns["predicted_label"] = known.argmax(1)
    return pa.table(columns)
