"""Agreement of a hardness between runs: how far it depends on the data and not on the model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.tables.agreement import compare_columns, json_number


def agreement_matrix(columns: Mapping[str, npt.NDArray[np.floating]], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Rank correlation and overlap of the easiest 30% of each pair of columns of the same samples.

    Args:
        columns: name of the run -> [N].
        labels: [N].

    Returns:
        `names`, and the matrices `spearman` and `overlap_30` in that order.
    """
    names = list(columns)
    pairs = {(a, b): compare_columns(a, b, columns[a], columns[b], labels) for a in names for b in names}
    return {
        "names": names,
        "spearman": [[json_number(pairs[a, b].spearman) for b in names] for a in names],
        "overlap_30": [[json_number(pairs[a, b].overlap[0.3]) for b in names] for a in names],
    }
