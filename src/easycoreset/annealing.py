"""Values that change over the steps of a loop."""

import math


def anneal(start: float, end: float, progress: float) -> float:
    """The value at `progress` in [0, 1] of half a cosine from `start` to `end`.

    >>> anneal(1.0, 0.0, 0.0), anneal(1.0, 0.0, 0.5), anneal(1.0, 0.0, 1.0)
    (1.0, 0.5, 0.0)
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
