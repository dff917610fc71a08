"""Statistics of results: means and standard deviations over seeds, and what they say, in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import say_eps, say_objective, say_share


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


def tell_gains(groups: Sequence[Group], method: str = "easycore", against: str = "random") -> list[str]:
    """Say where `method` lies above and below `against`, a sentence for each fraction, objective and budget.

    It describes the table; what may be claimed is the business of the contrasts.
    """
    sentences: list[str] = []
    for own in groups:
        place = (own.fraction, own.objective, own.budget)
        other = next((g for g in groups if g.method == against and (g.fraction, g.objective, g.budget) == place), None)
        if own.method != method or other is None:
            continue
        measured = {"clean": (own.clean, other.clean)}
        measured |= {
            f"eps {say_eps(eps)}": (own.robust[attack, eps], other.robust[attack, eps]) for attack, eps in own.robust
        }
        verdicts: dict[str, list[str]] = {"above it": [], "below it": [], "within a standard error of it": []}
        for name, ((mean, std), (base, base_std)) in measured.items():
            error = np.sqrt((std**2 + base_std**2) / own.seeds)
            side = "above it" if mean > base else "below it"
            verdict = side if abs(mean - base) > error else "within a standard error of it"
            verdicts[verdict].append(f"{name} ({100 * (mean - base):+.1f} points)")
        said = "; ".join(f"{verdict} at {', '.join(names)}" for verdict, names in verdicts.items() if names)
        place = f"{say_objective(own.objective, (g.objective for g in groups))}, {say_share(own.fraction)} kept"
        sentences.append(f"{place}: {method} beside {against} lies {said}.")
    return sentences


def _key(row: dict[str, Any]) -> tuple[str, float, str, str]:
    budget = f"{row['updates']} updates" if row.get("updates") is not None else f"{row['epochs']} epochs"
    return row["method"], row["fraction"], row["objective"], budget
