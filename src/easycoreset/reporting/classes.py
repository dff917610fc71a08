"""Robust accuracy of each class, with intervals, and of the worst class."""

from typing import Any

import numpy as np

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Section
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.statistics import Estimate, Outcomes, Row, estimate

WORST = (
    "The worst class has the lowest mean robust accuracy over seeds. Choosing the lowest of several makes it look "
    "worse than it is, the more so the fewer images a class has. Its intervals are computed as those of contrasts."
)
MAX_CLASSES = 20  # with more, only the worst class is shown


def describe_classes(outcomes: Outcomes) -> list[Section]:
    """The worst class of every row at the main eps and largest budget; all classes where there are not too many."""
    worst: list[list[Any]] = []
    all_rows: list[list[Any]] = []
    settings = SettingCells(outcomes.grid)
    for setting, rows in outcomes.grid.items():
        eps = outcomes.main_eps(setting)
        for method in dict.fromkeys(method for method, _ in rows):
            size = max(size for name, size in rows if name == method)
            row = outcomes.row(setting, (method, size), eps)
            if row is None:
                continue
            head = [
                *settings.of(setting, method),
                method,
                f"{size} {outcomes.budget_unit(setting)}",
                format_eps(eps),
                len(row.seeds),
            ]
            per_class = estimate_by_class(row)
            label = min(per_class, key=lambda name: per_class[name].mean)
            worst.append([*head, label, *_percentages(per_class[label]), round(100 * float(row.robust.mean()), 2)])
            all_rows += (
                [[*head, name, *_percentages(value)] for name, value in per_class.items()]
                if len(per_class) <= MAX_CLASSES
                else []
            )
    if not worst:
        return []
    columns = [
        *settings.columns,
        "method",
        "budget",
        "eps",
        "seeds",
        "class",
        "robust",
        "low",
        "high",
        "images",
    ]
    tables = [DataTable("robust accuracy in % of the worst class", [*columns, "all classes"], worst)]
    sections = [Section("Worst class", [WORST], tables=tables)]
    if all_rows:
        grid = DataTable("robust accuracy in % of each class", columns, all_rows)
        sections.append(Section("Every class", tables=[grid], collapsed=True))
    return sections


def estimate_by_class(row: Row) -> dict[int, Estimate]:
    """Robust accuracy of each class, with its interval over seeds and images."""
    return {int(k): estimate(row.robust[:, row.labels == k].astype(float)) for k in np.unique(row.labels)}


def _percentages(estimated: Estimate) -> list[Any]:
    interval = [
        None if value != value else round(100 * max(0.0, min(1.0, value)), 2)
        for value in (estimated.low, estimated.high)
    ]
    return [round(100 * estimated.mean, 2), *interval, estimated.images]
