"""Means and standard deviations over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.options.comparing import FULL
from easycoreset.statistics.settings import Setting, fits_all_fractions


@dataclass(frozen=True)
class Group:
    """All seeds of one method, at one fraction, objective and budget, in one setting.

    Attributes:
        data: name of the data set.
        model: the model.
        variant: options of training and evaluation that are off their defaults, as text.
        scoring: options of scoring and choosing that are off their defaults, as text; None if no scores are read.
        method: spelling of the method.
        fraction: fraction of samples that is kept.
        objective: spelling of the objective.
        budget: training budget, as text: "600 updates".
        seeds: number of seeds.
        clean: (mean, standard deviation with ddof 1) of the clean accuracy.
        robust: (attack, eps) -> (mean, standard deviation) of the accuracy under this attack.
        main_eps: the radius at which contrasts are tested.
    """

    data: str
    model: str | None
    variant: str
    scoring: str | None
    method: str
    fraction: float
    objective: str
    budget: str
    seeds: int
    clean: tuple[float, float]
    robust: dict[tuple[str, float], tuple[float, float]]
    main_eps: float

    @property
    def setting(self) -> Setting:
        """What it shares with the rows that it is compared with."""
        return Setting(self.data, self.model, self.objective, self.fraction, self.variant, self.scoring)

    def accuracy_at(self, eps: float) -> tuple[float, float] | None:
        """(mean, deviation) of the accuracy at one eps, under the strongest attack there; None if there was none."""
        by_attack = {attack: figures for (attack, radius), figures in self.robust.items() if radius == eps}
        return by_attack.get("worst") or min(by_attack.values(), default=None)


def group_results(results: pa.Table) -> list[Group]:
    """Summarise a results table over seeds, without strong attacks.

    The groups are in the order in which they first appear, but training on all data is the last of its kind.
    """
    rows = [row for row in results.to_pylist() if not row["strong"]]
    keys = list(dict.fromkeys(_key(row) for row in rows))
    groups: list[Group] = []
    for key in keys:
        group_rows = [row for row in rows if _key(row) == key]
        main_eps = group_rows[0]["main"]
        clean = {row["seed"]: row["clean"] for row in group_rows}
        attacks = list(dict.fromkeys((row["attack"], row["eps"]) for row in group_rows))
        robust = {
            (attack, eps): mean_std(
                [row["accuracy"] for row in group_rows if (row["attack"], row["eps"]) == (attack, eps)]
            )
            for attack, eps in attacks
        }
        groups.append(
            Group(*key, seeds=len(clean), clean=mean_std(list(clean.values())), robust=robust, main_eps=main_eps)
        )
    kinds = list(dict.fromkeys(group.setting[:3] for group in groups))
    return sorted(
        groups,
        key=lambda g: (kinds.index(g.setting[:3]), fits_all_fractions(g.method, g.fraction), g.method == FULL),
    )


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1; NaN for a single value).

    >>> mean_std([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _key(row: dict[str, Any]) -> tuple[str, str | None, str, str | None, str, float, str, str]:
    budget = f"{row['updates']} updates" if row.get("updates") is not None else f"{row['epochs']} epochs"
    where = (row["data"], row["model"], row["variant"], row.get("scoring", ""))
    return *where, row["method"], row["fraction"], row["objective"], budget
