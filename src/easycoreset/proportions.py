"""The interval of a proportion, and of the mean of shares."""

import numpy as np
import numpy.typing as npt
from scipy import special


def wilson_interval(count: float, total: float) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927); scipy.stats has it, but takes a second to import.

    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.5958, 0.9821)
    """
    z = float(special.ndtri(0.975))
    centre = (2 * count + z**2) / (2 * (total + z**2))
    denominator = 2 * (total + z**2)
    half = z * (4 * count * (total - count) / total + z**2) ** 0.5 / denominator
    return 0.0 if count == 0 else centre - half, 1.0 if count == total else centre + half


def mean_share_interval(shares: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """The mean of shares [n] in [0,1] of independent samples, and its 95% interval.

    Wilson's interval at the effective number of samples, those of a proportion of the same variance (Korn & Graubard
    1998): where all shares are 0 or 1, it is that of the proportion.

    >>> mean_share_interval(np.array([1.0] * 9 + [0.0]))[1:] == wilson_interval(9, 10)
    True
    """
    mean, variance = float(shares.mean()), float(shares.var())
    effective = len(shares) * (mean * (1 - mean) / variance if variance > 0 else 1.0)
    return mean, *wilson_interval(mean * effective, effective)
