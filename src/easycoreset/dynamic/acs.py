"""Adversarial coreset selection (ACS): gradients of the objective, chosen anew while training."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from easycoreset.dynamic import EpochChoice, EpochState
from easycoreset.dynamic.reselect import Schedule
from easycoreset.errors import require
from easycoreset.selection.geometry import GradientSum, squared_distances
from easycoreset.selection.gradmatch import matching_pursuit
from easycoreset.selection.row_selection import choose_rows, in_parts
from easycoreset.selection.submodular import cluster_sizes, maximise_coverage, to_similarity
from easycoreset.tables import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class ACS(Schedule, abc.ABC):
    """Base of both methods: the schedule, and what is chosen.

    `unit=batch` chooses among fixed random batches by their mean gradients, as the authors run it, `unit=row` among
    the rows of each class.
    """

    takes_fraction: ClassVar[bool] = True
    has_weights: ClassVar[bool] = True
    uses_gradients: ClassVar[bool] = True
    warm: float = 0.5
    unit: Literal["batch", "row"] = "batch"
    part: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.part >= 1, "part", ">= 1", self.part)

    @abc.abstractmethod
    def choose_units(self, gradients: Floats, count: int) -> tuple[Ints, Floats]:
        """Choose `count` of the gradients [n, d]: their positions and weights."""

    @abc.abstractmethod
    def choose_in_class(self, gradients: GradientSum, label: int, count: int) -> tuple[Ints, Floats]:
        """Choose `count` rows of a class: their positions and weights."""

    def __call__(self, state: EpochState) -> EpochChoice:
        kept = self.kept(state)
        if kept is not None:
            return kept
        gradients = state.require_passes("acs").gradients()
        return self._choose_batches(state, gradients) if self.unit == "batch" else self._choose_rows(state, gradients)

    def _choose_batches(self, state: EpochState, gradients: GradientSum) -> EpochChoice:
        n = len(state.labels)
        batches = np.array_split(state.rng().permutation(n), math.ceil(n / state.batch_size))
        means = np.stack([gradients.take(batch).mean() for batch in batches])
        count = min(math.ceil(state.count / min(map(len, batches))), len(batches))
        chosen, weight = self.choose_units(means, count)
        rows = np.concatenate([batches[k] for k in chosen])[: state.count].astype(np.int64)
        weights = np.repeat(weight, [len(batches[k]) for k in chosen])[: state.count].astype(np.float64)
        return EpochChoice(rows, (weights / weights.mean()).astype(np.float32), state.epoch)

    def _choose_rows(self, state: EpochState, gradients: GradientSum) -> EpochChoice:
        weight = np.ones(len(state.labels), np.float32)

        def order(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
            rows = rng.permutation(rows)
            chosen, weight[rows[chosen]] = self.choose_in_class(gradients.take(rows), int(state.labels[rows[0]]), count)
            return rows[chosen]

        order_in_parts = in_parts(order, self.part, "acs")
        table = state.without_scores()
        coreset = choose_rows(table, state.count, state.seed, order_in_parts, per_class=True, weight=weight)
        return EpochChoice.from_coreset(coreset, state.epoch)


@dataclass(frozen=True, kw_only=True)
class ACSCraig(ACS):
    """CRAIG on the objective's last-layer gradients, at examples crafted on the present model (Dolatabadi et al. 2022).

    Their methods under TRADES are the paper's baselines. Departures: beta counts once (theirs twice), the subset is
    shuffled, training goes on from the first choice at once, batch norm is in train mode in training and in eval mode
    in selection.
    """

    def choose_units(self, gradients: Floats, count: int) -> tuple[Ints, Floats]:
        """Cover all gradients."""
        return cover(squared_distances(gradients, gradients), count)

    def choose_in_class(self, gradients: GradientSum, label: int, count: int) -> tuple[Ints, Floats]:
        """Cover the gradients of the class."""
        return cover(gradients.pair_distances(), count)


@dataclass(frozen=True, kw_only=True)
class ACSGradMatch(ACS):
    """GradMatch on the gradients of acs-craig (Dolatabadi et al. 2022); with unit=row on those of the class's logit."""

    lam: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lam >= 1e-6, "lam", ">= 1e-6", self.lam)

    def choose_units(self, gradients: Floats, count: int) -> tuple[Ints, Floats]:
        """Match the sum of all gradients."""
        matched = matching_pursuit(gradients.T.astype(np.float64), count, self.lam)
        return matched.chosen, matched.weight.astype(np.float32)

    def choose_in_class(self, gradients: GradientSum, label: int, count: int) -> tuple[Ints, Floats]:
        """Match the sum of the gradients of the class's logit."""
        return self.choose_units(gradients.of_logit(label), count)


def cover(squared: Floats, count: int) -> tuple[Ints, Floats]:
    """Facility location by squared distances [n, n]: positions, and the number that each stands for."""
    similarity = to_similarity(squared)
    chosen = maximise_coverage(similarity, count)
    return chosen, cluster_sizes(similarity, chosen)
