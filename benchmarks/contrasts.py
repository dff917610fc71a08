"""What the contrasts of a grid cost at the size of ImageNet's test set: 50,000 images, ten seeds."""

import statistics
import time
import tracemalloc

import numpy as np

from benchmarks.coverage import as_results
from easycoreset.statistics import Outcomes, contrast_all
from easycoreset.statistics.outcomes import Row

IMAGES = 50_000
SEEDS = 10


def run() -> list[dict]:
    """Seconds and megabytes of every contrast of one method with random at three budgets, from outcomes in memory."""
    rng = np.random.default_rng(0)
    levels = {
        ("random", 600): (0.60, 0.30),
        ("random", 1200): (0.69, 0.26),
        ("random", 2400): (0.77, 0.22),
        ("method0", 2400): (0.73, 0.25),
    }
    rows = {}
    for key, accuracies in levels.items():
        right = [rng.random((SEEDS, IMAGES)) < accuracy for accuracy in accuracies]
        rows[key] = Row(tuple(range(SEEDS)), np.arange(IMAGES), np.zeros(IMAGES, np.int64), *right)
    table, outcomes = as_results(rows)

    def measure() -> int:
        return len(contrast_all(Outcomes(table, outcomes.__getitem__)))

    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert measure() == 2
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    measure()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    low, _, high = statistics.quantiles(seconds, n=4)
    what = "contrasts of 50,000 images and ten seeds, matched clean and equal updates"
    return [
        {"what": f"{what}, seconds", "budget": 1.0, "measured": statistics.median(seconds), "low": low, "high": high},
        {"what": f"{what}, MB beyond the outcomes", "budget": 300, "measured": peak},
    ]
