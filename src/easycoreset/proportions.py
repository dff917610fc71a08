"""The interval of a proportion."""

from scipy import special


def wilson_interval(count: int, total: int) -> tuple[float, float]:
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
