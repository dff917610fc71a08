"""Intervals that cover both sources of chance: the seeds of training and the sample of test images."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
MAX_FLIPPED_SEEDS = 20  # with more seeds the exact sign-flip p is not computed
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its 95% interval.

    Attributes:
        mean: mean over the seeds.
        low: lower end of the interval; NaN for a single seed, and where all seeds have the same value.
        high: upper end, likewise.
        p: two-sided, for a mean of 0: the level at which the half width equals abs(mean).
        seed_variance: variance of the seeds' means (ddof 1).
        image_variance: variance of the mean due to the sample of images, shared by all seeds.
        seeds: number of seeds.
        images: number of images.
    """

    mean: float
    low: float
    high: float
    p: float
    seed_variance: float
    image_variance: float
    seeds: int
    images: int


def estimate(by_image: Floats) -> Estimate:
    """The mean of per-image values over seeds and images, [seeds, images], with an interval of two parts.

    The half width is sqrt(t^2(n - 1) s^2 / n + z^2 c): s^2 is the variance of the seeds' means, c the variance
    due to the images, which all seeds share. Each part has its own quantile: s^2 of few seeds is uncertain, c is not.
    """
    seeds, images = by_image.shape
    values = by_image.mean(1)
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) if seeds > 1 else NAN
    if not variance > 1e-24:  # rounding may make equal values differ
        return Estimate(
            mean=mean, low=NAN, high=NAN, p=NAN, seed_variance=variance, image_variance=NAN, seeds=seeds, images=images
        )
    shared = image_variance(by_image)
    half = half_width(0.05, variance, shared, seeds)
    return Estimate(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p=p_value(mean, variance, shared, seeds),
        seed_variance=variance,
        image_variance=shared,
        seeds=seeds,
        images=images,
    )


def image_variance(by_image: Floats) -> float:
    """Variance of the mean over seeds that is due to the images and not already part of the variance between seeds.

    The mean covariance over images between two seeds, all pairs, cut at 0, divided by the number of images. Seeds
    also differ on images on which their models happen to disagree; that part is in the variance between seeds.

    Args:
        by_image: [seeds, images], at least two of each.

    >>> image_variance(np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])) * 4  # all variance is shared
    0.3333333333333333
    """
    seeds, images = by_image.shape
    if images < 2:
        return 0.0
    covariance = float(by_image.sum(0).var(ddof=1) - by_image.var(axis=1, ddof=1).sum())
    return max(covariance, 0.0) / (seeds * (seeds - 1) * images)


def half_width(level: float, variance: float, shared: float, seeds: int) -> float:
    """Half the width of the interval of confidence 1 - `level`.

    >>> round(half_width(0.05, 4.0, 0.0, 4), 3), round(half_width(0.05, 0.0, 1.0, 4), 3)
    (3.182, 1.96)
    """
    t = float(special.stdtrit(seeds - 1, level / 2))
    z = float(special.ndtri(level / 2))
    return float(np.sqrt(t * t * variance / seeds + z * z * shared))


def p_value(mean: float, variance: float, shared: float, seeds: int) -> float:
    """The level at which the half width equals abs(mean), by bisection over its logarithm.

    >>> round(p_value(3.182446, 4.0, 0.0, 4), 6)
    0.05
    """
    low = -700.0  # natural logarithm of the level
    high = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if half_width(float(np.exp(middle)), variance, shared, seeds) > abs(mean) else (low, middle)
        )
    return float(np.exp((low + high) / 2))


def sign_flip_p(values: Sequence[float]) -> float:
    """The exact two-sided p of the seeds' mean under flips of their signs; NaN beyond 20 seeds.

    It is the share of all 2^n sign patterns whose mean is at least as far from 0, at least 2^(1 - n).

    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    """
    if not 1 <= len(values) <= MAX_FLIPPED_SEEDS:
        return NAN
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= abs(sum(values)) - 1e-12))


def paired_difference(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The difference of two models' accuracies on the same images: 95% interval, and the exact p of McNemar (1947).

    The interval is Agresti and Min's (2005): half an image is added to each of the two discordant counts.

    Args:
        first: [N] whether the first model is right on each image.
        second: [N] likewise for the second, on the same images.

    >>> paired_difference(np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool))["p"]
    1.0
    """
    n = len(first)
    gained = int(np.sum(first & ~second))
    lost = int(np.sum(~first & second))
    total = n + 2
    b = gained + 0.5
    c = lost + 0.5
    centre = (b - c) / total
    half = 1.959964 * float(np.sqrt(b + c - (b - c) ** 2 / total)) / total
    p = min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))
    return {"difference": (gained - lost) / n, "low": centre - half, "high": centre + half, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (Holm 1979) over a family of fixed size; NaN, for what was not measured, counts as 1.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])], holm([0.01, float("nan")])
    ([0.03, 0.06, 0.06], [0.02, 1.0])
    """
    values = [p if np.isfinite(p) else 1.0 for p in p_values]
    order = sorted(range(len(values)), key=values.__getitem__)
    scaled = [min(1.0, (len(values) - rank) * values[i]) for rank, i in enumerate(order)]
    corrected = dict(zip(order, itertools.accumulate(scaled, max), strict=True))
    return [corrected[i] for i in range(len(values))]
