"""An issue table as cleanlab's users know it."""

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from easycoreset.errors import UsageError
from easycoreset.exporting.sources import plain, read_tables
from easycoreset.files import write_atomic
from easycoreset.options import ExportOptions
from easycoreset.tables import Scores

QUALITY = ("label_quality", "label_score")  # of CleanLearning, and of Datalab


def write_issues(options: ExportOptions) -> None:
    """Label issues as cleanlab's tables name them: `is_label_issue`, quality in [0,1] (1 is clean), given, predicted.

    Of an audit, what it says. Of scores, the quality is exp(-loss), the mean (geometric, over the scored epochs) of
    the probability of the given label, or without the column loss that probability in the last epoch; an issue is a
    quality below chance, 1 / classes. The predicted label is known where `score --save-features` was asked for. The
    model was trained on these samples: cleanlab's own estimates want predictions from outside the training set.

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
    write_atomic(options.out, lambda path: csv.write_csv(table, path))


def issues_of_audit(audit: pa.Table) -> pa.Table:
    """The audit's own verdicts under both of cleanlab's names.

    Raises:
        UsageError: it has no `is_label_issue` or no quality in [0, 1].
    """
    quality = next((name for name in QUALITY if name in audit.column_names), None)
    if "is_label_issue" not in audit.column_names or quality is None:
        raise UsageError(f"source: the audit needs is_label_issue and label_quality for format cleanlab; it has "
                         f"{', '.join(audit.column_names)}")  # fmt: skip
    values = np.asarray(audit[quality].to_numpy(zero_copy_only=False), np.float64)
    if np.any((values < 0) | (values > 1)):
        raise UsageError(f"source: {quality} must be in [0, 1]; got {values.min():g} to {values.max():g}")
    for name in QUALITY:
        if name not in audit.column_names:
            audit = audit.append_column(name, audit[quality])
    return audit


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
