"""What plans cost: one more eps on a finished grid beside the evaluations alone, and a start with nothing to do."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.children import EASYCORESET, spend
from easycoreset.evaluation import evaluate
from easycoreset.options import CompareOptions
from easycoreset.workflow.comparing import plan_comparison, run_comparison
from easycoreset.workflow.steps import is_done

GRID = {
    "data": "digits",
    "methods": ("random", "easycore"),
    "fractions": (0.5,),
    "updates": (100,),
    "seeds": "3",
    "vary": {"score.epochs": 2},
    "attack": ("pgd:steps=100:restarts=3",),
    "eps": (0.05,),
    "workers": 1,
}
EMPTY = ("compare", "--data", "digits", "--methods", "random", "--controls", "none", "--fractions", "0.2", "--quiet")
EMPTY += ("--updates", "1", "--seeds", "334", "--eps", "0.1", "--attack", "fgsm", "--limit", "10")


def run() -> list[dict]:
    """The ratio of an eps, and the seconds of an empty plan of 1,002 steps."""
    with tempfile.TemporaryDirectory() as temporary:
        return [measure_eps(Path(temporary) / "grid"), measure_empty(Path(temporary) / "empty")]


def measure_eps(folder: Path) -> dict:
    """`compare` with one more eps, its worker's start not counted, over the same evaluations by `evaluate`."""
    options = CompareOptions(**GRID, out=folder)
    run_comparison(options)
    more = dataclasses.replace(options, eps=(0.05, 0.1))
    plan = plan_comparison(more)
    missing = [step for step in plan.targets if not is_done(step, folder)]
    assert {step.kind for step in missing} == {"evaluate"}
    run_comparison(dataclasses.replace(options, eps=(0.05, 0.02)))  # what is loaded at first use is loaded now
    extended = timed(lambda: run_comparison(more))
    alone = 0.0
    for number, step in enumerate(missing):
        arguments = step.arguments(folder) | {"out": folder.with_name(f"alone-{number}"), "threads": 1}
        alone += timed(lambda arguments=arguments: evaluate(**arguments))
    worker = time_worker_start(folder)
    what = (
        f"one eps on a finished grid of {len(plan.cells)} cells / the evaluations alone (worker's start {worker:.1f} s)"
    )
    return {"what": what, "measured": (extended - worker) / alone, "budget": 1.10, "seconds": [extended, alone]}


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def time_worker_start(folder: Path) -> float:
    """Seconds until a worker process is ready for its first step."""
    from easycoreset.workflow.pools import LocalPool
    from easycoreset.workflow.worker import Machine

    (step, *_) = plan_comparison(CompareOptions(**GRID, out=folder)).targets
    started = time.monotonic()
    pool = LocalPool(1, Machine(folder, "cpu"))
    try:
        pool.result(pool.submit(step))  # it is done already
    finally:
        pool.close()
    return time.monotonic() - started


def measure_empty(folder: Path) -> dict:
    """A start of a plan of 1,002 finished steps, as a whole command."""
    spend([*EASYCORESET, *EMPTY, "--out", folder])
    seconds = min(spend([*EASYCORESET, *EMPTY, "--out", folder]).seconds for _ in range(3))
    return {"what": "an empty plan of 1,002 finished steps, seconds", "measured": seconds, "budget": 3.0}
