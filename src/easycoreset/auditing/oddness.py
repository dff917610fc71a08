"""How far a sample lies from its nearest neighbours among others, in features."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

NEIGHBOURS = 10
MAX_REFERENCE = 10_000  # samples among which neighbours are looked for
FAR_OUT = 3.0  # interquartile ranges above the third quartile (Tukey's outer fence)


def measure_oddness(reference: Floats | None, features: Floats | None) -> npt.NDArray[np.float32]:
    """[n] mean cosine distance of `features` [n, d] to their nearest among `reference` [m, d]; NaN without features."""
    from sklearn.neighbors import NearestNeighbors

    if reference is None or features is None:
        return np.full(0 if features is None else len(features), np.nan, np.float32)
    rows = np.random.default_rng(0).permutation(len(reference))[:MAX_REFERENCE]
    index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(rows)), metric="cosine").fit(reference[np.sort(rows)])
    return index.kneighbors(features)[0].mean(1).astype(np.float32)


def find_odd(oddness: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Scores [N] in [0, 1], and whether a sample is far out [N], from distances [N] that are 1 at the median.

    >>> score, odd = find_odd(np.array([0.9, 1.0, 1.1, 1.0, 4.0]))
    >>> score.round(2).tolist(), odd.tolist()
    ([0.0, 0.0, 0.09, 0.0, 0.75], [False, False, False, False, True])
    """
    values = np.log(np.maximum(oddness, 1e-6))
    low, high = np.quantile(values, (0.25, 0.75))
    return np.clip(1 - 1 / np.maximum(oddness, 1e-6), 0, 1), values > high + FAR_OUT * max(high - low, 1e-3)
