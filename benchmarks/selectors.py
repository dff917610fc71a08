"""Every selector on real scores and features: seconds, peak memory, and how much their choices overlap.

`python -m benchmarks.selectors SCORES [RESULT.json]`, where SCORES is a scores.parquet with features beside it.
Score-based ones also on 1.28 million made-up rows of 1,000 classes.
"""

import json
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.__main__ import describe
from easycoreset.memory import measure_peak
from easycoreset.selection import SELECTORS, load_selector
from easycoreset.tables import Coreset, Scores

FRACTIONS = (0.1, 0.3)
MANY = 1_281_167
PLANTED = ("boundary", "curvature", "vog")  # columns that `score` does not make yet, or not unasked
MORE = ("easycore:per_class=true", "stratified:per_class=true", "random:per_class=true", "prototypes:end=easy")
ARRAYS = {"features", "probabilities"}


def plant(scores: Scores) -> Scores:
    """Add random columns where a measure is not built yet."""
    rng = np.random.default_rng(0)
    for name in PLANTED:
        scores.columns.setdefault(name, rng.random(len(scores), dtype=np.float32))
    return scores


def many_rows() -> Scores:
    """Random columns of 1.28 million rows."""
    rng = np.random.default_rng(0)
    needed = {need for name in SELECTORS for need in load_selector(name)[1].needs} - ARRAYS
    columns = {name: rng.random(MANY, dtype=np.float32) for name in sorted(needed)}
    return Scores(
        sample_ids=[""] * MANY,
        labels=rng.integers(0, 1000, MANY),
        class_names=[str(k) for k in range(1000)],
        n_obs=np.ones(MANY, np.int32),
        columns=columns,
    )


def time_choice(method: str, file: str | None, queue: "multiprocessing.Queue[dict]") -> None:
    """In a process of its own: one method at both fractions."""
    scores = many_rows() if file is None else plant(Scores.read(file))
    selector = load_selector(method)[1]
    rows = []
    for fraction in FRACTIONS:
        count = int(np.floor(fraction * len(scores) + 0.5))

        def choose_timed(count: int = count) -> tuple[Coreset, float]:
            start = time.perf_counter()
            return selector(scores, count, 0), round(time.perf_counter() - start, 3)

        (coreset, seconds), peak = measure_peak(choose_timed)
        rows.append(
            {
                "method": method,
                "rows": len(scores),
                "fraction": fraction,
                "seconds": seconds,
                "added_mb": peak,
                "kept": np.flatnonzero(coreset.keep).tolist() if file else len(coreset),
            }
        )
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    queue.put({"rows": rows, "process_peak_mb": round(whole, 1)})


def run_alone(method: str, file: str | None) -> list[dict]:
    """Time one method in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=time_choice, args=(method, file, queue))
    process.start()
    found = queue.get()
    process.join()
    rows = [row | {"process_peak_mb": found["process_peak_mb"]} for row in found["rows"]]
    for row in rows:
        kept = row["kept"] if isinstance(row["kept"], int) else len(row["kept"])
        print(
            f"{method:28} {row['rows']:8} rows, keeps {kept:7}: {row['seconds']:8.3f} s, {row['added_mb']} MB added, "
            f"{row['process_peak_mb']:.0f} MB in all",
            flush=True,
        )
    return rows


def overlap(rows: list[dict], fraction: float) -> dict:
    """Share of samples that two methods' coresets have in common, for all pairs."""
    kept = {row["method"]: set(row["kept"]) for row in rows if row["fraction"] == fraction}
    return {a: {b: round(len(kept[a] & kept[b]) / len(kept[a]), 3) for b in kept} for a in kept}


def main(file: str, result: str = "runs/bench/selectors.json") -> None:
    """Run all, and write one JSON."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    methods = [*SELECTORS, *MORE]
    scores = plant(Scores.read(file))
    assert scores.features is not None
    rows = [row for method in methods for row in run_alone(method, file)]
    large = [
        row for method in methods if not ARRAYS & set(load_selector(method)[1].needs) for row in run_alone(method, None)
    ]
    overlaps = {str(fraction): overlap(rows, fraction) for fraction in FRACTIONS}
    for row in rows:
        row["kept"] = len(row["kept"])
    facts = {key: scores.provenance.get(key) for key in ("fingerprint", "data", "model", "mode", "options")}
    record = describe() | {
        "command": f"python -m benchmarks.selectors {file} {result}",
        "scores": facts,
        "seed": 0,
        "features": list(scores.features.shape),
        "planted": list(PLANTED),
        "threads": 1,
        "at_1.28_million_rows": large,
        "timings": rows,
        "overlap": overlaps,
    }
    Path(result).parent.mkdir(parents=True, exist_ok=True)
    Path(result).write_text(json.dumps(record, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
