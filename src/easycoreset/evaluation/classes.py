"""The clean accuracy of each class, balanced accuracy, and which classes are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from easycoreset.evaluation.outcomes import Outcome
from easycoreset.proportions import wilson_interval

MAX_CONFUSIONS = 1000  # pairs of classes, those with the most samples


def summarise_classes(
    clean: Outcome, worst: Sequence[Outcome], labels: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """The accuracy of each class and the most frequent confusions, as JSON values.

    Args:
        clean: the outcome without an attack.
        worst: the outcomes under the worst attack, one for each eps.
        labels: [N] of the split.
        names: of the classes.

    Returns:
        `classes` (of each class: samples, clean accuracy with its 95% Wilson interval, accuracies under the worst
        attack), `balanced_accuracy` (the mean clean accuracy, with the same weight for each class), `worst_class` (the
        one with the lowest clean accuracy) and `confusions` (label, predicted class and count, most frequent first).
    """
    label = labels[clean.index]
    classes: list[dict[str, Any]] = []
    for k in np.unique(label).tolist():
        own = label == k
        right, total = int((~clean.broken[own]).sum()), int(own.sum())
        low, high = wilson_interval(right, total)
        attacked = [float(1 - outcome.broken[own].mean()) for outcome in worst]
        facts = {"class": str(names[k]), "samples": total, "accuracy": right / total, "low": low, "high": high}
        classes.append({**facts, "worst": attacked})
    wrong = clean.broken
    pairs, counts = np.unique(np.stack([label[wrong], clean.pred[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CONFUSIONS]
    return {
        "classes": classes,
        "balanced_accuracy": float(np.mean([line["accuracy"] for line in classes])),
        "worst_class": min(classes, key=lambda line: line["accuracy"])["class"],
        "confusions": [
            {"label": str(names[a]), "predicted": str(names[b]), "count": int(counts[row])}
            for row, (a, b) in zip(order, pairs[order].tolist(), strict=True)
        ],
    }
