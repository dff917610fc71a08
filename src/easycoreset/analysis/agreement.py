"""Agreement of a hardness between runs: how far it depends on the data and not on the model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.tables.agreement import agree, known


def agreement_matrix(columns: Mapping[str, npt.NDArray[np.floating]], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Rank correlation and overlap of the easiest 30% of each pair of columns of the same samples.

    Args:
        columns: name of the run -> [N].
        labels: [N].

    Returns:
        `names`, and the matrices `spearman` and `overlap_30` in that order.
    """
    names = list(columns)
    pairs = {(a, b): agree(a, b, columns[a], columns[b], labels) for a in names for b in names}
    return {
        "names": names,
        "spearman": [[known(pairs[a, b].spearman) for b in names] for a in names],
        "overlap_30": [[known(pairs[a, b].overlap[0.3]) for b in names] for a in names],
    }
