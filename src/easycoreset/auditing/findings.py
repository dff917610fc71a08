"""What an audit finds, as the table of the training part and as counts."""

from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.auditing.duplicates import Copies
from easycoreset.auditing.issues import Part, count_kinds
from easycoreset.auditing.judgement import Judgement
from easycoreset.auditing.label_issues import LabelIssues, judge_skill
from easycoreset.auditing.ranks import rank_hardest_first
from easycoreset.data import Source
from easycoreset.tables import Scores

JUDGE_LOSS = "judge_loss"  # the column that ranks samples where there are no scores


def tabulate(
    scores: Scores,
    judgement: Judgement,
    found: LabelIssues,
    by: str,
    copies: Copies,
    parts: list[Part],
) -> pa.Table:
    """Build the table of the training part, one row per sample; unknown values are null."""
    names = list(scores.class_names)
    n = len(scores)
    rows = np.arange(n, dtype=np.int64)
    p = judgement.p["train"]
    pred = p.argmax(1)
    self_confidence = p[rows, scores.labels].astype(np.float32)
    loss = -np.log(np.maximum(self_confidence, np.float32(1e-12)))
    hardness = loss if by == JUDGE_LOSS else scores[by]
    original = copies.original[parts[0].rows]
    return pa.table(
        {
            "index": rows,
            "sample_id": pa.array(scores.sample_ids, pa.string()),
            "label": scores.labels,
            "label_name": pa.array([names[k] for k in scores.labels], pa.string()),
            "pred": pred,
            "pred_name": pa.array([names[k] for k in pred], pa.string()),
            "probability": p.max(1).astype(np.float32),
            "self_confidence": self_confidence,
            by: hardness,
            "rank": rank_hardest_first(hardness),
            "rank_in_class": rank_hardest_first(hardness, scores.labels),
            "suspicion": found.suspicion.astype(np.float32),
            "likely_mislabelled": found.called_wrong,
            "duplicate_of": pa.array(original, mask=(original < 0) | (original >= n)),
            "in_test": original >= n,
        }
    )


def summarise(
    source: Source,
    by: str,
    issues: pa.Table,
    table: pa.Table,
    judgement: Judgement,
    found: LabelIssues,
) -> dict[str, Any]:
    """Count what the audit found, and describe how reliable the judge of the labels is."""
    label = table["label"].to_numpy()
    duplicate_of = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    duplicates = np.flatnonzero(~np.isnan(duplicate_of))
    summary: dict[str, Any] = {
        "samples": {name: len(split) for name, split in source.splits.items()},
        "by": by,
        "issues": count_kinds(issues),
        "likely_mislabelled": int(found.called_wrong.sum()),
        "duplicates_with_another_label": int(
            np.sum(label[duplicates] != label[duplicate_of[duplicates].astype(np.int64)])
        ),
        "unreadable": list(source.unreadable),
        "held_out": source.holds_out,
    }
    summary["judge"] = describe_judge(judgement, found, list(source.class_names), table["label"].to_numpy())
    return summary


def describe_judge(judgement: Judgement, found: LabelIssues, names: list[str], labels: Any) -> dict[str, Any]:
    """How the judge was made, and how reliable it is: its held-out accuracy, overall and per class."""
    called = found.suspicion[found.called_wrong]
    accuracy = float(np.mean(judgement.p["train"].argmax(1) == labels))
    accuracies = [None if np.isnan(value) else float(value) for value in found.accuracy]
    return {
        "kind": judgement.kind,
        **judgement.facts,
        "accuracy": accuracy,
        "skill": judge_skill(accuracy, labels),
        "accuracy_per_class": dict(zip(names, accuracies, strict=True)),
        "weak_classes": [name for name, weak in zip(names, found.weak_classes, strict=True) if weak],
        "scale": found.noise.scale,
        "expected_wrong": float(found.suspicion.sum()),
        "expected_precision": float(called.mean()) if len(called) else None,
    }
