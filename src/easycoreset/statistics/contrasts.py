"""Contrasts with random: gain, interval, verdict; one a method is declared before the run, the rest is exploratory."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import say_eps, say_share
from easycoreset.statistics.frontiers import GAINS, Floats, Load, Point, load_points
from easycoreset.statistics.intervals import holm, interval, p_value, pooled_variance, resample_weights, shared_variance

BASELINE = "random"
REFERENCES = (BASELINE, "full")
MARGIN = 0.01  # within which no difference is claimed
ENOUGH_SEEDS = 5
ALPHA = 0.05
SAID = {
    "gain": "gains over random",
    "loss": "loses to random",
    "inconclusive": "is inconclusive against random",
    "no difference": "shows no difference from random",
}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A method against random.

    Attributes:
        method: its spelling.
        objective: likewise.
        fraction: kept.
        budget: of the method, in words.
        eps: radius.
        kind: equal updates or matched clean.
        declared: before the run; else it is exploratory.
        gains: seed -> gain in robust accuracy; None where random's frontier does not reach.
        gain: mean over the seeds that have one.
        low: of the 95% interval.
        high: of the 95% interval.
        p: two-sided.
        p_holm: corrected over the declared contrasts; NaN where exploratory.
    """

    method: str
    objective: str
    fraction: float
    budget: str
    eps: float
    kind: str
    declared: bool
    gains: dict[int, float | None]
    gain: float
    low: float
    high: float
    p: float
    p_holm: float = float("nan")

    @property
    def verdict(self) -> str:
        """gain, loss, no difference (0 in an interval within one point), inconclusive, or not measurable.

        A declared gain or loss must also stand after Holm's correction.
        """
        if not np.isfinite(self.low):
            return "not measurable"
        if self.low <= 0 <= self.high:
            return "no difference" if self.low >= -MARGIN and self.high <= MARGIN else "inconclusive"
        if self.declared and not self.p_holm < ALPHA:
            return "inconclusive"
        return "gain" if self.low > 0 else "loss"

    def sentence(self) -> str:
        """What it says."""
        place = f"{self.objective}, {say_share(self.fraction)} kept, eps {say_eps(self.eps)}"
        how = "at the same budget" if self.kind == "equal updates" else "at the same clean accuracy"
        measured = sum(gain is not None for gain in self.gains.values())
        seeds = f"{measured} of {len(self.gains)} seeds" if measured < len(self.gains) else f"{measured} seeds"
        values = [gain for gain in self.gains.values() if gain is not None]
        if self.verdict == "not measurable" and len(values) == len(self.gains):
            one = "one seed has no interval" if len(values) == 1 else "all seeds gain the same"
            return f"{place}: {self.method} against random {how}: {_points(self.gain)} points, but {one}."
        if self.verdict == "not measurable":
            why = "have no partner in random" if self.kind == "equal updates" else "lie on random's frontier"
            count = len(self.gains) - measured if self.kind == "equal updates" else measured
            said = f"{count} of {len(self.gains)} seeds {why}"
            return f"{place}: {self.method} against random {how} is not measurable: {said}."
        figures = f"{_points(self.gain)} points (95% interval {_points(self.low)} to {_points(self.high)}, {seeds}"
        figures += f", Holm's p {self.p_holm:.3g})" if self.declared else ", exploratory)"
        few = "" if measured >= ENOUGH_SEEDS else " A first look."
        return f"{place}: {self.method} {SAID[self.verdict]} {how}: {figures}.{few}"


def contrast_all(results: pa.Table, load: Load, declared: dict[str, str] | None = None,
                 planned: dict[tuple[str, str], int] | None = None) -> list[Contrast]:  # fmt: skip
    """Every method against random, at every radius and in both ways.

    Args:
        results: as `compare` writes it.
        load: gives a cell's per-image outcomes by its name.
        declared: objective -> kind of the contrast that was declared before the run, at the main radius and the
            method's largest budget; what is not in it is exploratory.
        planned: (method, objective) -> that largest budget, where it may not be done yet.

    Returns:
        The declared contrasts first.
    """
    found: list[Contrast] = []
    weigh = functools.cache(resample_weights)
    rows = [row for row in results.to_pylist() if row["attack"] != "worst"]
    for group in _groups(rows):
        kind_declared = (declared or {}).get(group[0]["objective"])
        for eps in dict.fromkeys(row["eps"] for row in group):
            points = load_points([row for row in group if row["eps"] == eps], eps, load)
            for kind in GAINS:
                is_main = kind == kind_declared and np.isclose(eps, group[0]["main"])
                found += _contrast_group(group[0], points, eps, kind, bool(is_main), planned or {}, weigh)
    corrected = holm([contrast.p for contrast in found if contrast.declared])
    places = iter(corrected)
    found = [dataclasses.replace(c, p_holm=next(places)) if c.declared else c for c in found]
    return sorted(found, key=lambda contrast: not contrast.declared)


def _groups(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows of one data set, model, objective and fraction."""
    keys = ("data", "model", "objective", "fraction")
    for key in dict.fromkeys(tuple(row[name] for name in keys) for row in rows):
        yield [row for row in rows if tuple(row[name] for name in keys) == key]


def _contrast_group(row: dict[str, Any], points: Sequence[Point], eps: float, kind: str, is_main: bool,
                    planned: dict[tuple[str, str], int], weigh: Callable[[int], Floats]) -> list[Contrast]:  # fmt: skip
    random = [point for point in points if point.method == BASELINE]
    others = [point for point in points if point.method not in REFERENCES]
    if not random or not others:
        return []
    cells = {
        key: [p for p in others if (p.method, p.size) == key]
        for key in dict.fromkeys((p.method, p.size) for p in others)
    }
    gains = {key: {p.seed: GAINS[kind](p, random) for p in own} for key, own in cells.items()}
    measured = {key: [g for g in found.values() if g is not None] for key, found in gains.items()}
    seed_variance, freedom = pooled_variance(list(measured.values()))
    weights = weigh(len(points[0].clean))
    contrasts: list[Contrast] = []
    for (method, size), own in cells.items():
        values = measured[method, size]
        mean = float(np.mean(values)) if values else float("nan")
        variance = float("nan")
        if len(values) > 1:
            resampled = [r for p in own if (r := GAINS[kind](p, random, weights)) is not None]
            variance = seed_variance / len(values) + shared_variance(np.array(resampled))
        low, high = interval(mean, variance, freedom)
        done = max(other for name, other in cells if name == method)
        largest = size == planned.get((method, row["objective"]), done)
        contrasts.append(Contrast(
            method=method, objective=row["objective"], fraction=row["fraction"], budget=own[0].budget, eps=eps,
            kind=kind, declared=is_main and largest, gains=gains[method, size], gain=mean, low=low, high=high,
            p=p_value(mean, variance, freedom),
        ))  # fmt: skip
    return contrasts


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
