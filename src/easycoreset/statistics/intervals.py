"""Intervals that hold both sources of chance: the seeds of training, and the test images that happened to be there."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
RESAMPLES = 1000


def pooled_variance(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Variance within groups, pooled, and its degrees of freedom.

    >>> pooled_variance([[1.0, 3.0], [2.0, 2.0, 5.0]])
    (2.6666666666666665, 3)
    """
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    if not freedom:
        return float("nan"), 0
    return sum(float(np.var(group, ddof=1)) * (len(group) - 1) for group in groups if len(group) > 1) / freedom, freedom


def resample_weights(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Bootstrap weights of the test images, [resamples, images], each row summing to 1."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, images, (resamples, images))
    rows = np.arange(resamples)[:, None] * images
    counts = np.bincount((drawn + rows).ravel(), minlength=resamples * images).reshape(resamples, images)
    return counts / images


def shared_variance(resampled: Floats) -> float:
    """Variance that the test images give to the mean over seeds, beyond what the seeds' own variance holds already.

    Each seed's gain also differs by images on which its own models happen to disagree; that part is in the variance
    between seeds and must not be counted twice. What is left is the mean covariance between seeds over resamples.

    Args:
        resampled: [seeds, resamples] gains.
    """
    seeds = len(resampled)
    covariance = np.cov(resampled)
    between = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
    return max(float(between), 0.0)


def interval(mean: float, variance: float, freedom: int, level: float = 0.95) -> tuple[float, float]:
    """The t interval around a mean whose squared standard error is `variance`."""
    if not freedom or not variance > 0:
        return float("nan"), float("nan")
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * variance**0.5
    return mean - half, mean + half


def p_value(mean: float, variance: float, freedom: int) -> float:
    """Two-sided p of a mean of 0."""
    if not freedom or not variance > 0:
        return float("nan")
    return float(2 * special.stdtr(freedom, -abs(mean) / variance**0.5))


def paired_difference(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The difference of two models' accuracies on the same images: 95% interval, and the exact p of McNemar (1947).

    The interval is Agresti and Min's (2005): half an image is added to each way of being told apart.

    Args:
        one: [N] whether it is right.
        other: likewise, on the same images.

    >>> paired_difference(np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool))["p"]
    1.0
    """
    n, gained, lost = len(one), int(np.sum(one & ~other)), int(np.sum(~one & other))
    total, b, c = n + 2, gained + 0.5, lost + 0.5
    middle, half = (b - c) / total, 1.959964 * float(np.sqrt(b + c - (b - c) ** 2 / total)) / total
    p = min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))
    return {"difference": (gained - lost) / n, "low": middle - half, "high": middle + half, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (Holm 1979); NaN stays NaN and counts for nothing.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    known = [place for place, p in enumerate(p_values) if np.isfinite(p)]
    corrected = [float("nan")] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
