"""Learning rates as functions of progress, so that resuming a run needs no scheduler state."""

import math


def learning_rate(kind: str, progress: float) -> float:
    """The learning rate, as a share of its peak, after `progress` in [0, 1) of all updates.

    onecycle: cosine from 1/25 up to 1 over the first 30%, then cosine down to 1/250000 (Smith & Topin 2018, with
    torch's constants); cosine: from 1 to 0; step: 1, then 0.1 from 75% and 0.01 from 90% on.

    >>> learning_rate("step", 0.8), learning_rate("cosine", 0.5), learning_rate("onecycle", 0.3)
    (0.1, 0.5, 1.0)
    """
    if kind == "onecycle":
        if progress < 0.3:
            return _cosine(1 / 25, 1.0, progress / 0.3)
        return _cosine(1.0, 4e-6, (progress - 0.3) / 0.7)
    if kind == "cosine":
        return _cosine(1.0, 0.0, progress)
    if kind == "step":
        return 1.0 if progress < 0.75 else 0.1 if progress < 0.9 else 0.01
    return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
