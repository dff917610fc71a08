"""Statistics of results: means and standard deviations over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Group:
    """All seeds of one method, at one fraction, objective and budget.

    Attributes:
        method: its spelling.
        fraction: kept.
        objective: its spelling.
        budget: of training, in words.
        seeds: how many.
        clean: (mean, standard deviation with ddof 1) of the clean accuracy.
        robust: (attack, eps) -> likewise of the accuracy under attack.
    """

    method: str
    fraction: float
    objective: str
    budget: str
    seeds: int
    clean: tuple[float, float]
    robust: dict[tuple[str, float], tuple[float, float]]

    def at(self, eps: float) -> tuple[float, float] | None:
        """Accuracy at one eps under the strongest attack that was run there; None where there was none."""
        found = {attack: figures for (attack, radius), figures in self.robust.items() if radius == eps}
        return found.get("worst") or min(found.values(), default=None)


def group_results(results: pa.Table) -> list[Group]:
    """Summarise a results table over seeds, in the order in which its groups first appear."""
    rows = results.to_pylist()
    keys = list(dict.fromkeys(_key(row) for row in rows))
    groups: list[Group] = []
    for key in keys:
        own = [row for row in rows if _key(row) == key]
        clean = {row["seed"]: row["clean"] for row in own}
        attacks = list(dict.fromkeys((row["attack"], row["eps"]) for row in own))
        robust = {a: mean_std([row["accuracy"] for row in own if (row["attack"], row["eps"]) == a]) for a in attacks}
        groups.append(Group(*key, seeds=len(clean), clean=mean_std(list(clean.values())), robust=robust))
    return groups


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1; NaN of a single value).

    >>> mean_std([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _key(row: dict[str, Any]) -> tuple[str, float, str, str]:
    budget = f"{row['updates']} updates" if row.get("updates") is not None else f"{row['epochs']} epochs"
    return row["method"], row["fraction"], row["objective"], budget
