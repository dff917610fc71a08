"""Do easy samples lie farther from the decision boundary: hardness against the margin that an attack finds."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.tables.agreement import easiest_first, known, spearman

DRAWS = 1000  # of the bootstrap
Numbers = npt.NDArray[np.floating]


def against_margin(hardness: Numbers, margins: pa.Table, bins: int, seed: int = 0) -> dict[str, Any]:
    """Rank correlation of a hardness and the margins with a bootstrap interval over samples, and means by quantile.

    Samples that are wrong when clean have margin 0 and count; those for which no adversarial point was found do not.

    Args:
        hardness: [N], by index.
        margins: of one attack: `index, distance_upper_bound`.
        bins: equal parts of the hardness, the easiest first.
        seed: of the bootstrap.

    Returns:
        `samples, spearman, interval` (95%), and `bins` with mean hardness, mean and median margin of each part.
    """
    index = margins["index"].to_numpy()
    distance = margins["distance_upper_bound"].to_numpy(zero_copy_only=False).astype(float)
    values = hardness[index].astype(float)
    both = np.flatnonzero(np.isfinite(values) & np.isfinite(distance))
    values = values[both]
    distance = distance[both]
    rng = np.random.default_rng(seed)
    drawn = [spearman(values[rows], distance[rows]) for rows in rng.integers(0, len(both), (DRAWS, len(both)))]
    fine = [value for value in drawn if np.isfinite(value)]
    parts = np.array_split(easiest_first(values), bins)
    return {
        "samples": len(both),
        "spearman": known(spearman(values, distance)),
        "interval": [float(v) for v in np.quantile(fine, [0.025, 0.975])] if fine else None,
        "bins": [
            {
                "hardness": float(values[p].mean()),
                "mean": float(distance[p].mean()),
                "median": float(np.median(distance[p])),
            }
            for p in parts
            if len(p)
        ],
    }
