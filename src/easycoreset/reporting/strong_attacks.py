"""Results of the attacks of `--strong`, in a table of their own because they attacked fewer images."""

import itertools
from typing import Any

import numpy as np

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Section
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.statistics import Outcomes, mean_std

TRANSFERRED = (
    "The images of transfer are made on a model of all data with another seed: the attacked model is not asked. Where "
    "they break more than the table's attacks (a positive last column), gradients are probably masked."
)
FEWER = (
    "These attacks ran on fewer images (and perhaps seeds) than the results above and are no part of the worst case "
    "there. Each row also gives the accuracy under the table's attacks on the same images. Under a stronger attack the "
    "difference is how much the table overestimates robustness."
)


def describe_strong_attacks(outcomes: Outcomes) -> list[Section]:
    """One row per method, budget and strong attack: mean over seeds, and the table's attacks on the same images."""
    settings = SettingCells(outcomes.grid)
    rows: dict[tuple[Any, ...], list[Any]] = {}
    names: dict[str, None] = {}
    for setting, keys in outcomes.grid.items():
        eps = outcomes.main_eps(setting)
        for (method, budget), attack in itertools.product(keys, outcomes.strong_attacks(setting)):
            strong = outcomes.row(setting, (method, budget), eps, attack)
            usual = outcomes.row(setting, (method, budget), eps)
            if strong is None or usual is None:
                continue
            names[attack] = None
            strong = strong.select_seeds([seed for seed in strong.seeds if seed in usual.seeds])
            same = usual.select_seeds(strong.seeds).robust[:, np.isin(usual.images, strong.images)]
            strongest, std = mean_std([float(100 * value) for value in strong.robust.mean(1)])
            usual_mean = float(100 * same.mean(1).mean())
            rounded_std = None if std != std else round(std, 2)
            where = settings.of(setting, method)
            what = [method, f"{budget} {outcomes.budget_unit(setting)}", attack, format_eps(eps)]
            figures = [round(strongest, 2), rounded_std, round(usual_mean, 2), round(usual_mean - strongest, 2)]
            rows[*where, *what] = [*where, *what, len(strong.images), len(strong.seeds), *figures]
    if not rows:
        return []
    columns = [*settings.columns, "method", "budget", "attack", "eps", "images", "seeds"]
    columns += ["accuracy", "±", "table's attacks", "too high by"]
    grid = DataTable(
        "accuracy in % under further attacks, mean and standard deviation over seeds", columns, list(rows.values())
    )
    by_plan = any(name.split(":")[0] == "transfer" and "from=" not in name for name in names)
    notes = [FEWER, TRANSFERRED] if by_plan else [FEWER]
    return [Section(f"Further attacks: {', '.join(names)}", notes, tables=[grid])]
