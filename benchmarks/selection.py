"""EasyCore's choice among 1.28 million rows: the selector's call on columns in memory."""

import resource
import statistics
import time
import tracemalloc

import numpy as np

from easycoreset.selection import load_selector
from easycoreset.tables import Scores

ROWS = 1_281_167


def run() -> list[dict]:
    """Seconds and megabytes, the only absolute budgets."""
    rng = np.random.default_rng(0)
    names = [str(k) for k in range(1000)]
    ids = [""] * ROWS
    scores = Scores(
        sample_ids=ids,
        labels=rng.integers(0, 1000, ROWS),
        class_names=names,
        n_obs=np.ones(ROWS, np.int32),
        columns={"aign": rng.random(ROWS, dtype=np.float32)},
    )
    selector = load_selector("easycore")[1]
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        selector(scores, ROWS // 2, 0)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    selector(scores, ROWS // 2, 0)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    low, _, high = statistics.quantiles(seconds, n=4)
    return [
        {
            "what": "EasyCore selection of 1.28 million rows at 50%, seconds",
            "budget": 0.5,
            "measured": statistics.median(seconds),
            "low": low,
            "high": high,
        },
        {
            "what": "EasyCore selection of 1.28 million rows at 50%, MB beyond the columns",
            "budget": 200,
            "measured": peak,
            "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        },
    ]
