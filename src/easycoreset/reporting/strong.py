"""What the strong attacks of a comparison found: told beside the table, since they saw fewer images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import say_eps
from easycoreset.reporting.page import Grid, Section
from easycoreset.statistics import Outcomes, mean_std

FEWER = (
    "On fewer images (and seeds, it may be) than the results above, and no part of the worst case there. Beside each "
    "stands the accuracy of the table's attacks on the same images: how much higher it is tells how much they missed."
)


def describe_strong(cells: Mapping[str, dict[str, Any]], outcomes: Outcomes) -> list[Section]:
    """A row a method, budget and strong attack: mean over its seeds, beside the table's attacks on the same images.

    Args:
        cells: their records.
        outcomes: of each image.
    """
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for name, record in cells.items():
        usual = outcomes.load(name)
        strong = outcomes.load_strong(name)
        options = record["options"]
        budget = f"{options['updates']} updates" if options.get("updates") else f"{options.get('epochs')} epochs"
        for attack in strong["attack"].unique().to_pylist() if strong is not None else ():
            *accuracies, eps, images = _accuracies(usual, strong, attack)
            key = (options["objective"], options["fraction"], options["method"], budget, attack, say_eps(eps), images)
            found.setdefault(key, []).append((accuracies[0], accuracies[1]))
    if not found:
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
    for key, seeds in found.items():
        strongest, std = mean_std([100 * value for value, _ in seeds])
        usual = float(np.mean([100 * value for _, value in seeds]))
        spread = None if std != std else round(std, 2)
        figures = [round(strongest, 2), spread, round(usual, 2), round(usual - strongest, 2)]
        rows.append([*key, len(seeds), *figures])
    grid = Grid("accuracy in % under strong attacks, mean and standard deviation over seeds", columns, rows)
    names = ", ".join(dict.fromkeys(key[4] for key in found))
    return [Section(f"Under {names} too", [FEWER], tables=[grid])]


def _accuracies(usual: pa.Table, strong: pa.Table, attack: str) -> tuple[float, float, float, int]:
    """Accuracy under a strong attack, and under the table's on the same images; eps, and how many images."""
    rows = np.asarray(strong["attack"].to_pylist()) == attack
    images = strong["index"].to_numpy()[rows]
    eps = float(strong["eps"].to_numpy()[rows][0])
    fallen = strong["broken"].to_numpy(zero_copy_only=False)[rows]
    index = usual["index"].to_numpy()
    radius = usual["eps"].to_numpy()
    same = np.isclose(radius, eps) & np.isin(index, images)
    broken = np.zeros(len(images), bool)
    order = np.argsort(images)
    places = order[np.searchsorted(images[order], index[same])]
    np.logical_or.at(broken, places, usual["broken"].to_numpy(zero_copy_only=False)[same])
    return float(1 - fallen.mean()), float(1 - broken.mean()), eps, len(images)
