"""How well each hardness finds labels known to be wrong, compared with confident learning if it is installed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.tables.agreement import argsort_easiest_first

CUTS = (0.5, 1.0, 2.0)  # times the number of wrong labels


def measure_noise(
    columns: Mapping[str, npt.NDArray[np.floating]],
    labels: npt.NDArray[np.int64],
    wrong: npt.NDArray[np.bool_],
    p: np.ndarray,
) -> dict[str, Any]:
    """Precision and recall of the k hardest, at half, once and twice the number of wrong labels.

    Args:
        columns: name -> [N] values that are compared.
        labels: [N] the given labels.
        wrong: [N] which labels are known to be wrong.
        p: [N, classes] the judge's probabilities, which cleanlab is given too.
    """
    rankings = {name: np.where(np.isfinite(v), v, -np.inf) for name, v in columns.items()}
    if (quality := cleanlab_quality(labels, p)) is not None:
        rankings["cleanlab"] = -quality
    total = int(wrong.sum())
    result: dict[str, Any] = {"wrong": total, "share": total / len(wrong), "columns": {}}
    for name, hardness in rankings.items():
        order = argsort_easiest_first(-hardness)
        hits = np.cumsum(wrong[order])
        cuts = [max(int(cut * total + 0.5), 1) for cut in CUTS]
        counts = [(k, int(hits[min(k, len(hits)) - 1])) for k in cuts]
        result["columns"][name] = [{"k": k, "precision": hit / k, "recall": hit / total} for k, hit in counts]
    return result


def cleanlab_quality(labels: npt.NDArray[np.int64], p: np.ndarray) -> np.ndarray | None:
    """Cleanlab's label quality [N], 1 is clean (Northcutt et al. 2021); None where the extra is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        log.info("cleanlab is not installed (pip install easycoreset[cleanlab]): its ranking is left out")
        return None
    return np.asarray(get_label_quality_scores(labels, p.astype(np.float64), method="normalized_margin"))
