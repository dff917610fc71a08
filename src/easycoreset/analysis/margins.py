"""Hardness against the margin that an attack finds: whether easy samples lie farther from the boundary."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.tables.agreement import argsort_easiest_first, json_number, spearman

BOOTSTRAP_DRAWS = 1000  # resamples
Numbers = npt.NDArray[np.floating]


def correlate_with_margin(hardness: Numbers, margins: pa.Table, bins: int, seed: int = 0) -> dict[str, Any]:
    """Rank correlation of a hardness with margins, with a bootstrap interval over samples, and means by quantile.

    Samples that are misclassified without an attack count with margin 0; samples without an adversarial point are left
    out.

    Args:
        hardness: [N], by index.
        margins: of one attack: `index, distance_upper_bound`.
        bins: number of equal parts of the hardness, easiest first.
        seed: of the bootstrap.

    Returns:
        `samples, spearman, interval` (95%), and `bins` with mean hardness, mean and median margin of each part.
    """
    index = margins["index"].to_numpy()
    distance = margins["distance_upper_bound"].to_numpy(zero_copy_only=False).astype(float)
    values = hardness[index].astype(float)
    rows = np.flatnonzero(np.isfinite(values) & np.isfinite(distance))
    values = values[rows]
    distance = distance[rows]
    rng = np.random.default_rng(seed)
    correlations = [
        spearman(values[resample], distance[resample])
        for resample in rng.integers(0, len(rows), (BOOTSTRAP_DRAWS, len(rows)))
    ]
    finite = [value for value in correlations if np.isfinite(value)]
    parts = np.array_split(argsort_easiest_first(values), bins)
    return {
        "samples": len(rows),
        "spearman": json_number(spearman(values, distance)),
        "interval": [float(v) for v in np.quantile(finite, [0.025, 0.975])] if finite else None,
        "bins": [
            {
                "hardness": float(values[part].mean()),
                "mean": float(distance[part].mean()),
                "median": float(np.median(distance[part])),
            }
            for part in parts
            if len(part)
        ],
    }
