"""How often the contrasts' intervals hold the truth, and how often they claim what is not there, by simulation.

`python -m benchmarks.coverage RESULT.json [TABLES [CASE ...]]` (2,000 tables a case unless said; cases that are named
are put into what the result holds). A table is a grid of
2,000 test images that all its cells share. Accuracies of the seeds are normal around a row's true ones; an image is
right where a latent normal, of the image, of the row and image (an effect that all seeds share), and of the seed and
image, lies below the quantile of the seed's accuracy, so that the truth over all images is known exactly. Every
twentieth table is also measured end to end, by `contrast_all` on a table of results: the same p must come out.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import special

from benchmarks.__main__ import describe
from easycoreset.statistics import Outcomes, PlannedContrast, Plans, contrast_all, estimate, holm
from easycoreset.statistics.gains import NotMeasurableError, gain_at_equal_budget, gain_at_matched_clean
from easycoreset.statistics.outcomes import Row

IMAGES = 2000
TABLES = 2000
END_TO_END = 20
GAINS = (0.01, 0.03, -0.05)  # that methods have in turn, where there is a difference
EFFECTS = {"none": 0.0, "0.3 points": 0.003, "0.6 points": 0.006}  # sqrt(c) of a row's effect on images
BUDGETS = (600, 1200, 2400)
ROBUST = 0.30
CLEAN = (0.60, 0.69, 0.77)
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Case:
    """A simulated experiment.

    Attributes:
        name: as the README tells it.
        methods: noise of each method's seeds, in points.
        random: noise of random's seeds, in points.
        seeds: of every row.
        cleans: mean clean accuracy of each method on random's frontier; none at equal updates.
        off: one seed of ten is pushed beyond the frontier's end.
        correlation: between the noise of clean and of robust accuracy.
        noise: of the seeds: normal; t3, Student's with 3 degrees of freedom; collapse, where one seed in ten falls by
            ten points more; or methods collapse, where random's does not. They break the assumption of normal seeds.
    """

    name: str
    methods: tuple[float, ...]
    random: float
    seeds: int
    cleans: tuple[float, ...] = ()
    off: bool = False
    correlation: float = 0.0
    noise: str = "normal"


def frontier(name: str, clean: float, correlation: float, off: bool = False) -> Case:
    """Three methods of unequal noise at one place of random's frontier, ten seeds."""
    said = f"frontier, {name}" + (f", correlated {correlation}" if correlation else "")
    return Case(
        name=said, methods=(3.0, 1.0, 0.5), random=1.0, seeds=10, cleans=(clean,) * 3, off=off, correlation=correlation
    )


CASES = (
    Case(name="equal", methods=(2, 2, 2), random=2, seeds=5),
    Case(name="as in the demo", methods=(3.9, 2.9, 0.7), random=3.5, seeds=3),
    Case(name="one noisy", methods=(6, 1, 1), random=1, seeds=5),
    *(Case(name=f"many quiet, {n} seeds", methods=(1,) * 9, random=2, seeds=n) for n in (3, 5, 10)),
    *(frontier("between budgets", 0.73, rho) for rho in (0.0, 0.7)),
    *(frontier("at its end", 0.765, rho, off=True) for rho in (0.0, 0.7)),
    *(frontier("at a kink", CLEAN[1], rho) for rho in (0.0, 0.7)),
    Case(name="worse: heavy tails", methods=(4, 1, 1), random=1, seeds=5, noise="t3"),
    Case(name="worse: one seed in ten collapses", methods=(1, 1, 1), random=1, seeds=5, noise="collapse"),
    Case(
        name="worse: of the methods alone one seed in ten collapses",
        methods=(1, 1, 1),
        random=1,
        seeds=5,
        noise="methods collapse",
    ),
)


@dataclass
class Tally:
    """What came out of the tables of a case.

    Attributes:
        held: a method -> how often its interval held the truth.
        measured: a method -> how often it was measurable.
        claimed: tables with a declared gain or loss.
        tables: in all.
        end_to_end: tables that were measured through `contrast_all` too.
    """

    held: list[int]
    measured: list[int]
    claimed: int = 0
    tables: int = 0
    end_to_end: int = 0
    widths: list[float] = field(default_factory=list[float])


def simulate(case: Case, effect: float, different: bool, tables: int, seed: int = 0) -> Tally:
    """Draw tables and measure every method's contrast with random.

    Args:
        case: the experiment.
        effect: sqrt(c) of each method's effect on images; 0 for none.
        different: methods have true gains of 1, 3 and -5 points in turn; else none has any.
        tables: how many.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, CASES.index(case) if case in CASES else 99, round(1e4 * effect), different])
    shared = share_of(effect)
    count = len(case.methods)
    tally = Tally([0] * count, [0] * count)
    for number in range(tables):
        rows, truths = draw(case, shared, different, rng)
        random = {size: rows["random", size] for size in BUDGETS if ("random", size) in rows}
        ps: list[float] = []
        for place, truth in enumerate(truths):
            own = rows[f"method{place}", BUDGETS[-1]]
            try:
                gains = (
                    gain_at_matched_clean(own, random)
                    if case.cleans
                    else gain_at_equal_budget(own, random[BUDGETS[-1]])
                )
            except NotMeasurableError:
                ps.append(float("nan"))
                continue
            found = estimate(gains.by_image)
            ps.append(found.p)
            tally.measured[place] += 1
            tally.held[place] += found.low <= truth <= found.high
            tally.widths.append(found.high - found.low)
        tally.claimed += min(holm(ps)) < ALPHA
        tally.tables += 1
        if number % END_TO_END == 0:
            check_end_to_end(case, rows, ps)
            tally.end_to_end += 1
    return tally


def draw(
    case: Case, shared: float, different: bool, rng: np.random.Generator
) -> tuple[dict[tuple[str, int], Row], list[float]]:
    """The rows of one table, and the true gain of each method."""
    ease = rng.standard_normal((2, IMAGES), dtype=np.float32)  # clean and robust: what every model finds easy
    slope = np.array([-0.4, -0.5])  # of the frontier's two segments; a kink lies between
    levels = np.array([ROBUST, ROBUST + slope[0] * (CLEAN[1] - CLEAN[0]), 0.0])
    levels[2] = levels[1] + slope[1] * (CLEAN[2] - CLEAN[1])
    rows: dict[tuple[str, int], Row] = {}
    for size, clean, robust in zip(BUDGETS, CLEAN, levels, strict=True):
        if case.cleans or size == BUDGETS[-1]:
            steady = dataclasses.replace(case, noise="normal") if case.noise == "methods collapse" else case
            rows["random", size] = draw_row(clean, robust, case.random / 100, 0.0, steady, ease, rng)
    gains = [GAINS[place % len(GAINS)] if different else 0.0 for place in range(len(case.methods))]
    for place, (noise, gain) in enumerate(zip(case.methods, gains, strict=True)):
        clean = case.cleans[place] if case.cleans else CLEAN[-1]
        robust = float(np.interp(clean, CLEAN, levels)) + gain
        rows[f"method{place}", BUDGETS[-1]] = draw_row(clean, robust, noise / 100, shared, case, ease, rng, case.off)
    return rows, gains


def draw_row(
    clean: float,
    robust: float,
    noise: float,
    shared: float,
    case: Case,
    ease: np.ndarray,
    rng: np.random.Generator,
    off: bool = False,
) -> Row:
    """All seeds of a row; a third of what decides an image is common to all rows, `shared` is the row's own."""
    n = case.seeds
    rho = case.correlation
    normal = rng.standard_normal((2, n))
    if case.noise == "t3":
        normal[1] = rng.standard_t(3, n)
    elif case.noise.endswith("collapse"):  # its mean is taken off again: the row's true accuracy stays
        normal[1] -= (10.0 / (100 * noise)) * ((rng.random(n) < 0.1) - 0.1)
    jitter = 0.005 * normal[0] if case.cleans else 0.0 * normal[0]  # clean accuracy is quieter than robust
    moved = noise * (rho * normal[0] + np.sqrt(1 - rho**2) * normal[1])
    cleans = clean + jitter
    robusts = robust + moved
    if off:  # one seed of ten beyond the end of the frontier, the others drawn back by as much: the mean stays
        cleans = cleans + np.where(np.arange(n) == 0, 0.012, -0.012 / (n - 1))
    own = rng.standard_normal((2, IMAGES), dtype=np.float32)
    single = rng.standard_normal((2, n, IMAGES), dtype=np.float32)
    latent = np.sqrt(1 / 3) * ease[:, None] + np.sqrt(shared) * own[:, None] + np.sqrt(2 / 3 - shared) * single
    cuts = special.ndtri(np.clip(np.stack([cleans, robusts]), 1e-6, 1 - 1e-6)).astype(np.float32)
    right = latent < cuts[:, :, None]
    return Row(tuple(range(n)), np.arange(IMAGES), np.zeros(IMAGES, np.int64), right[0], right[1])


def share_of(effect: float) -> float:
    """How much of the latent variance a row's effect on images takes, so that sqrt(c) is `effect`.

    c times the images is the covariance between two seeds' gains: of the row's outcomes beyond what all rows share.
    """
    if not effect:
        return 0.0
    rng = np.random.default_rng(0)
    ease, own, one, other = rng.standard_normal((4, 400_000))
    cut = special.ndtri(ROBUST - 0.075)
    low = 0.0
    high = 2 / 3
    for _ in range(30):
        share = (low + high) / 2
        common = np.sqrt(1 / 3) * ease + np.sqrt(share) * own
        rest = np.sqrt(2 / 3 - share)
        pair = [special.ndtr((cut - common) / rest) for _ in (one, other)]
        alone = special.ndtr((cut - np.sqrt(1 / 3) * ease) / np.sqrt(2 / 3))
        covariance = float(np.mean((pair[0] - alone) * (pair[1] - alone)))
        low, high = (share, high) if covariance / IMAGES < effect**2 else (low, share)
    return (low + high) / 2


def check_end_to_end(case: Case, rows: dict[tuple[str, int], Row], ps: Sequence[float]) -> None:
    """The same table through `contrast_all`, as a comparison writes it: the same p come out."""
    table, outcomes = as_results(rows)
    sizes = tuple(sorted(size for method, size in rows if method == "random")) if case.cleans else ()
    plans = tuple(
        PlannedContrast(
            method=f"method{place}",
            against="random",
            kind="matched clean" if case.cleans else "equal updates",
            data="d",
            model="m",
            objective="standard",
            fraction=0.5,
            eps=0.1,
            size=BUDGETS[-1],
            frontier=sizes,
            seeds=tuple(range(case.seeds)),
        )
        for place in range(len(case.methods))
    )
    found = [c for c in contrast_all(Outcomes(table, outcomes.__getitem__), Plans(family=plans)) if c.declared]
    assert np.allclose([c.p for c in found], ps, equal_nan=True), (case.name, [c.p for c in found], ps)
    assert np.allclose([c.p_holm for c in found], holm(ps)), case.name


def as_results(rows: dict[tuple[str, int], Row]) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Rows as a table of results and the outcomes of its cells."""
    lines: list[dict[str, Any]] = []
    outcomes: dict[str, pa.Table] = {}
    for (method, size), row in rows.items():
        for place, seed in enumerate(row.seeds):
            name = f"{method}-{size}-{seed}"
            count = len(row.images)
            outcomes[name] = pa.table(
                {
                    "index": np.tile(row.images, 2),
                    "label": np.tile(row.labels, 2),
                    "attack": ["clean"] * count + ["pgd"] * count,
                    "eps": np.r_[np.zeros(count), np.full(count, 0.1)],
                    "broken": np.r_[~row.clean[place], ~row.robust[place]],
                }
            )
            lines.append(
                {
                    "cell": name,
                    "evaluation": name,
                    "data": "d",
                    "model": "m",
                    "variant": "",
                    "method": method,
                    "fraction": 0.5,
                    "objective": "standard",
                    "updates": size,
                    "epochs": None,
                    "seed": seed,
                    "main": 0.1,
                    "attack": "pgd",
                    "eps": 0.1,
                    "strong": False,
                }
            )
    return pa.Table.from_pylist(lines), outcomes


def run_cases(tables: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every case, with and without an effect on images, without and with a true difference."""
    for case in CASES:
        if names and case.name not in names:
            continue
        for effect, size in EFFECTS.items():
            null = simulate(case, size, False, tables)
            other = simulate(case, size, True, tables)
            coverage = [h / m for tally in (null, other) for h, m in zip(tally.held, tally.measured, strict=True)]
            measured = sum(null.measured + other.measured) / (2 * tables * len(case.methods))
            yield {
                "case": case.name,
                "image_effect": effect,
                "methods": len(case.methods),
                "seeds": case.seeds,
                "lowest_coverage": round(min(coverage), 4),
                "highest_coverage": round(max(coverage), 4),
                "false_claims": round(null.claimed / null.tables, 4),
                "found": round(other.claimed / other.tables, 4),
                "measurable": round(measured, 4),
                "median_width": round(float(np.median(null.widths)), 4),
                "tables": null.tables + other.tables,
                "end_to_end": null.end_to_end + other.end_to_end,
            }


def main() -> None:
    """Simulate, print and write."""
    result = Path(sys.argv[1])
    tables = int((sys.argv[2:] or [str(TABLES)])[0])
    names = sys.argv[3:]
    started = time.monotonic()
    record = json.loads(result.read_text()) if result.exists() else {"rows": []}
    rows = [{"commit": record.get("commit")} | row for row in record["rows"]]
    for row in run_cases(tables, names):
        print(json.dumps(row), flush=True)
        rows = [old for old in rows if (old["case"], old["image_effect"]) != (row["case"], row["image_effect"])]
        rows.append({"commit": describe()["commit"], **row})
        told = {
            **describe(),
            "command": f"python -m benchmarks.coverage {result} {tables}",
            "seed": 0,
            "images": IMAGES,
        }
        result.write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
