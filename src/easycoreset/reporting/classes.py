"""Robust accuracy class by class, with intervals, and the class where it is lowest."""

from typing import Any

import numpy as np

from easycoreset.console import say_eps
from easycoreset.reporting.page import Grid, Section
from easycoreset.statistics import Estimate, Outcomes, Row, estimate

WORST = (
    "The worst class is the one with the lowest mean over seeds: choosing the lowest of several makes it look lower "
    "than it is, the more so the fewer images a class has. Intervals are two-part, as the contrasts'."
)
MOST = 20  # classes that are told one by one


def describe_classes(outcomes: Outcomes) -> list[Section]:
    """The worst class of every row at the main eps and largest budgets, and each class where there are not too many."""
    worst: list[list[Any]] = []
    each: list[list[Any]] = []
    for setting, rows in outcomes.grid.items():
        eps = outcomes.main(setting)
        for method in dict.fromkeys(method for method, _ in rows):
            size = max(size for name, size in rows if name == method)
            row = outcomes.row(setting, (method, size), eps)
            if row is None:
                continue
            head = [setting[2], setting[3], method, f"{size} {outcomes.unit(setting)}", say_eps(eps), len(row.seeds)]
            found = by_class(row)
            label = min(found, key=lambda name: found[name].mean)
            worst.append([*head, label, *_figures(found[label]), round(100 * float(row.robust.mean()), 2)])
            each += [[*head, name, *_figures(value)] for name, value in found.items()] if len(found) <= MOST else []
    if not worst:
        return []
    columns = ["objective", "kept", "method", "budget", "eps", "seeds", "class", "robust", "low", "high", "images"]
    tables = [Grid("robust accuracy in % of the worst class", [*columns, "all classes"], worst)]
    sections = [Section("Worst class", [WORST], tables=tables)]
    if each:
        grid = Grid("robust accuracy in % of each class", columns, each)
        sections.append(Section("Every class", tables=[grid], folded=True))
    return sections


def by_class(row: Row) -> dict[int, Estimate]:
    """Robust accuracy of each class, with its interval over seeds and images."""
    return {int(k): estimate(row.robust[:, row.labels == k].astype(float)) for k in np.unique(row.labels)}


def _figures(found: Estimate) -> list[Any]:
    interval = [
        None if value != value else round(100 * max(0.0, min(1.0, value)), 2) for value in (found.low, found.high)
    ]
    return [round(100 * found.mean, 2), *interval, found.images]
