"""Results of a comparison's strong attacks, in a table of their own because they attacked fewer images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import format_eps
from easycoreset.reporting.page import DataTable, Section
from easycoreset.statistics import Outcomes, mean_std

FEWER = (
    "These attacks ran on fewer images (and perhaps seeds) than the results above and are no part of the worst case "
    "there. Each row also gives the accuracy under the table's attacks on the same images; the difference is how much "
    "those attacks overestimate robustness."
)


def describe_strong_attacks(cells: Mapping[str, dict[str, Any]], outcomes: Outcomes) -> list[Section]:
    """One row per method, budget and strong attack: mean over seeds, and the table's attacks on the same images.

    Args:
        cells: the record of each cell.
        outcomes: the outcome of each image.
    """
    pairs_by_row: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for name, record in cells.items():
        usual = outcomes.load(name)
        strong = outcomes.load_strong(name)
        options = record["options"]
        budget = f"{options['updates']} updates" if options.get("updates") else f"{options.get('epochs')} epochs"
        for attack in strong["attack"].unique().to_pylist() if strong is not None else ():
            *accuracies, eps, images = _accuracies(usual, strong, attack)
            key = (
                options["objective"],
                options["fraction"],
                options["method"],
                budget,
                attack,
                format_eps(eps),
                images,
            )
            pairs_by_row.setdefault(key, []).append((accuracies[0], accuracies[1]))
    if not pairs_by_row:
        return []
    columns = [
        "objective",
        "kept",
        "method",
        "budget",
        "attack",
        "eps",
        "images",
        "seeds",
        "accuracy",
        "±",
        "table's attacks",
        "too high by",
    ]
    rows: list[list[Any]] = []
    for key, pairs in pairs_by_row.items():
        strongest, std = mean_std([100 * value for value, _ in pairs])
        usual = float(np.mean([100 * value for _, value in pairs]))
        rounded_std = None if std != std else round(std, 2)
        figures = [round(strongest, 2), rounded_std, round(usual, 2), round(usual - strongest, 2)]
        rows.append([*key, len(pairs), *figures])
    grid = DataTable("accuracy in % under strong attacks, mean and standard deviation over seeds", columns, rows)
    names = ", ".join(dict.fromkeys(key[4] for key in pairs_by_row))
    return [Section(f"Strong attacks: {names}", [FEWER], tables=[grid])]


def _accuracies(usual: pa.Table, strong: pa.Table, attack: str) -> tuple[float, float, float, int]:
    """Accuracy under a strong attack and under the table's attacks on the same images; eps; number of images."""
    rows = np.asarray(strong["attack"].to_pylist()) == attack
    images = strong["index"].to_numpy()[rows]
    eps = float(strong["eps"].to_numpy()[rows][0])
    strong_broken = strong["broken"].to_numpy(zero_copy_only=False)[rows]
    index = usual["index"].to_numpy()
    radius = usual["eps"].to_numpy()
    is_same = np.isclose(radius, eps) & np.isin(index, images)
    broken = np.zeros(len(images), bool)
    order = np.argsort(images)
    positions = order[np.searchsorted(images[order], index[is_same])]
    np.logical_or.at(broken, positions, usual["broken"].to_numpy(zero_copy_only=False)[is_same])
    return float(1 - strong_broken.mean()), float(1 - broken.mean()), eps, len(images)
