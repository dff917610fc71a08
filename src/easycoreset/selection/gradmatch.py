"""GradMatch: samples whose weighted gradients add up to the full gradient."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from easycoreset.errors import require
from easycoreset.progress import progress
from easycoreset.selection.geometry import gradient_arrays, read_gradients
from easycoreset.selection.row_selection import choose_rows, in_parts, no_progress, require_classes
from easycoreset.tables import Coreset, Ints, Scores

ROUNDS = 50  # each picks a batch and refits all weights
PATIENCE = 3  # refits without progress before pivots change one at a time

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Match(NamedTuple):
    """The chosen positions, their weights, and the objective after each refit."""

    chosen: Ints
    weight: Doubles
    objective: list[float]


@dataclass(frozen=True, kw_only=True)
class GradMatch:
    """Orthogonal matching pursuit on last-layer gradients, within each class (Killamsetty et al. 2021).

    Minimises |b - A w|^2 + lam |w|^2, w >= 0: columns of A are the gradients of the true class's logit,
    (p_y - 1) (h, 1), divided by their mean norm, b is their sum. Train with the weights. Rows are picked in 50 batches,
    by inner product with the residual. `gradients=adversarial` uses PGD examples (Dolatabadi et al. 2022). More than
    `part` rows of a class are split at random.
    """

    cost: ClassVar[str] = "50 refits of d^2 count per class"
    gradients: Literal["clean", "adversarial"] = "clean"
    lam: float = 0.5
    part: int = 100_000
    per_class: bool = True

    def __post_init__(self) -> None:
        require_classes("gradmatch", self.per_class)
        require(self.part >= 1, "part", ">= 1", self.part)
        require(self.lam >= 1e-6, "lam", ">= 1e-6", self.lam)

    @property
    def needs(self) -> tuple[str, ...]:
        """The arrays needed for the gradients."""
        return gradient_arrays(self.gradients)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        weight = np.ones(len(scores), np.float32)
        with progress("gradmatch", count) as bar:

            def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
                rows = rng.permutation(rows)
                gradients = read_gradients(scores, rows, adversarial=self.gradients == "adversarial")
                error = gradients.error[np.arange(len(rows)), scores.labels[rows]]
                matched = matching_pursuit(
                    (error[:, None] * gradients.inputs).T.astype(np.float64), n, self.lam, bar.advance
                )
                weight[rows[matched.chosen]] = matched.weight
                return rows[matched.chosen]

            order_in_parts = in_parts(order, self.part, "gradmatch")
            return choose_rows(scores, count, seed, order_in_parts, per_class=True, weight=weight)


def matching_pursuit(columns: Doubles, count: int, lam: float, tick: Callable[[int], None] = no_progress) -> Match:
    """Choose `count` columns of A [d, n] and their weights.

    Picks of weight 0 get the smallest positive weight. If too few inner products are positive, the rest is filled by
    inner product with b, also at that weight.
    """
    scale = float(np.linalg.norm(columns, axis=0).mean())
    columns = columns / (scale or 1.0)
    target = columns.sum(1)
    chosen = np.zeros(0, np.int64)
    weight = np.zeros(0)
    objective = [float(target @ target)]
    free = np.ones(columns.shape[1], bool)
    while len(chosen) < count:
        correlation = (target - columns[:, chosen] @ weight) @ columns
        correlation[~free] = -np.inf
        batch = min(math.ceil(count / ROUNDS), count - len(chosen))
        added = np.argsort(-correlation, kind="stable")[:batch]
        added = added[correlation[added] > 0]
        if not len(added):
            break
        free[added] = False
        chosen = np.concatenate([chosen, added])
        passive = np.concatenate([weight > 0, np.ones(len(added), bool)])
        weight = fit_nonnegative(columns[:, chosen], target, lam, passive)
        residual = target - columns[:, chosen] @ weight
        objective.append(float(residual @ residual + lam * weight @ weight))
        tick(len(added))
    correlation = np.where(free, target @ columns, -np.inf)
    rest = np.argsort(-correlation, kind="stable")[: count - len(chosen)]
    tick(len(rest))
    weight = np.concatenate([weight, np.zeros(len(rest))])
    smallest = weight[weight > 0].min(initial=np.inf)
    filled = np.where(weight > 0, weight, smallest if np.isfinite(smallest) else 1.0)
    return Match(np.concatenate([chosen, rest]), filled, objective)


def fit_nonnegative(columns: Doubles, target: Doubles, lam: float, passive: Flags) -> Doubles:
    """Minimise |target - A w|^2 + lam |w|^2 over w >= 0, by block principal pivoting (Kim & Park 2011).

    Args:
        columns: A [d, k].
        target: [d].
        lam: ridge penalty, > 0.
        passive: [k], initial guess of which weights are positive.
    """
    passive = passive.copy()
    fewest = columns.shape[1] + 1
    patience = PATIENCE
    slack = 1e-9 * float(np.abs(target @ columns).max(initial=0))
    while True:
        weight = np.zeros(columns.shape[1])
        weight[passive] = fit_ridge(columns[:, passive], target, lam)
        gradient = lam * weight - (target - columns @ weight) @ columns
        violated = np.where(passive, weight < -1e-12, gradient < -slack)
        if not violated.any():
            return np.maximum(weight, 0)
        if violated.sum() < fewest:
            fewest = int(violated.sum())
            patience = PATIENCE
        elif patience:
            patience -= 1
        else:
            violated[: np.flatnonzero(violated)[-1]] = False
        passive ^= violated


def fit_ridge(columns: Doubles, target: Doubles, lam: float) -> Doubles:
    """Minimise |target - A w|^2 + lam |w|^2, solved in the smaller of the two spaces."""
    d, k = columns.shape
    if k <= d:
        return np.asarray(np.linalg.solve(columns.T @ columns + lam * np.eye(k), target @ columns), np.float64)
    return np.asarray(np.linalg.solve(columns @ columns.T + lam * np.eye(d), target) @ columns, np.float64)
