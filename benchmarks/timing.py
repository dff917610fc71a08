"""Ratios of interleaved repeats: what disturbs the machine disturbs both sides."""

import statistics
import time
from collections.abc import Callable, Sequence


def ratio(
    what: str,
    budget: float,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    repeats: int,
    warm: int = 2,
) -> dict:
    """Median of the ratios ours / reference over interleaved repeats, with the quartiles."""
    for _ in range(warm):
        reference()
        ours()
    ratios = []
    own = []
    for number in range(repeats):
        pair = [(ours, 0), (reference, 1)]
        seconds = [0.0, 0.0]
        for function, place in pair if number % 2 else reversed(pair):
            start = time.perf_counter()
            function()
            seconds[place] = time.perf_counter() - start
        ratios.append(seconds[0] / seconds[1])
        own.append(seconds[0])
    return median(what, budget, ratios) | {"seconds": statistics.median(own)}


def median(what: str, budget: float, values: Sequence[float]) -> dict:
    """Median of two or more measured values, with the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return {
        "what": what,
        "budget": budget,
        "measured": statistics.median(values),
        "low": low,
        "high": high,
        "repeats": len(values),
    }
