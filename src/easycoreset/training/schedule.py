"""Learning rates as functions of progress, so that resuming a run needs no scheduler state."""

from easycoreset.annealing import anneal

ONECYCLE_RISE = 0.3
FIRST = 1 / 25  # of the peak, at the first update


def learning_rate(kind: str, progress: float, warmup: float | None = None) -> float:
    """The learning rate, as a share of its peak, after `progress` in [0, 1) of all updates.

    onecycle: cosine from 1/25 up to 1 over the first 30%, then cosine down to 1/250000 (Smith & Topin 2018, with
    torch's constants); cosine: from 1 to 0; step: 1, then 0.1 from 75% and 0.01 from 90% on.

    Args:
        kind: of schedule.
        progress: share of the updates that are done.
        warmup: share of the updates in which the rate rises. For onecycle, this is the part with the rising cosine; any
            other schedule gets a linear rise from 1/25 before it, and takes the rest of the updates. None: 30% for
            onecycle, no rise for the others.

    >>> learning_rate("step", 0.8), learning_rate("cosine", 0.5), learning_rate("onecycle", 0.3)
    (0.1, 0.5, 1.0)
    >>> learning_rate("cosine", 0.1, warmup=0.2), learning_rate("constant", 0.6, warmup=0.2)
    (0.52, 1.0)
    """
    rise = (ONECYCLE_RISE if kind == "onecycle" else 0.0) if warmup is None else warmup
    if progress < rise:
        done = progress / rise
        return anneal(FIRST, 1.0, done) if kind == "onecycle" else FIRST + (1 - FIRST) * done
    rest = (progress - rise) / (1 - rise)
    if kind == "onecycle":
        return anneal(1.0, 4e-6, rest)
    if kind == "cosine":
        return anneal(1.0, 0.0, rest)
    if kind == "step":
        return 1.0 if rest < 0.75 else 0.1 if rest < 0.9 else 0.01
    return 1.0
