"""Results of a comparison's strong attacks, in a table of their own because they attacked fewer images."""

from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import format_eps
from easycoreset.reporting.page import DataTable, Section
from easycoreset.statistics import Outcomes, group_results, mean_std
from easycoreset.statistics.settings import differing_fields

FEWER = (
    "These attacks ran on fewer images (and perhaps seeds) than the results above and are no part of the worst case "
    "there. Each row also gives the accuracy under the table's attacks on the same images; the difference is how much "
    "those attacks overestimate robustness."
)


def describe_strong_attacks(results: pa.Table, outcomes: Outcomes) -> list[Section]:
    """One row per method, budget and strong attack: mean over seeds, and the table's attacks on the same images.

    Args:
        results: the table of results.
        outcomes: the outcome of each image.
    """
    fields = differing_fields(outcomes.grid)
    rows: list[list[Any]] = []
    names: dict[str, None] = {}
    for group in group_results(results, strong=True):
        budget = int(group.budget.split()[0])
        for attack, eps in group.robust:
            strong = outcomes.row(group.setting, (group.method, budget), eps, attack)
            usual = outcomes.row(group.setting, (group.method, budget), eps)
            if strong is None or usual is None:
                continue
            names[attack] = None
            same = usual.select_seeds(strong.seeds).robust[:, np.isin(usual.images, strong.images)]
            pairs = list(zip(100 * strong.robust.mean(1), 100 * same.mean(1), strict=True))
            strongest, std = mean_std([float(value) for value, _ in pairs])
            usual_mean = float(np.mean([value for _, value in pairs]))
            rounded_std = None if std != std else round(std, 2)
            where = [*(getattr(group, name) for name in fields), group.objective, group.fraction]
            what = [group.method, group.budget, attack, format_eps(eps), len(strong.images), len(pairs)]
            figures = [round(strongest, 2), rounded_std, round(usual_mean, 2), round(usual_mean - strongest, 2)]
            rows.append([*where, *what, *figures])
    if not rows:
        return []
    columns = [*fields, "objective", "kept", "method", "budget", "attack", "eps", "images", "seeds"]
    columns += ["accuracy", "±", "table's attacks", "too high by"]
    grid = DataTable("accuracy in % under strong attacks, mean and standard deviation over seeds", columns, rows)
    return [Section(f"Strong attacks: {', '.join(names)}", [FEWER], tables=[grid])]
