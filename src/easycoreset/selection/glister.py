"""GLISTER: the samples whose gradients lower the loss on held-back samples."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.errors import require
from easycoreset.selection.classes import choose_rows
from easycoreset.selection.geometry import Gradients, read_gradients, read_rows
from easycoreset.tables import Coreset, Floats, Ints, Scores

LEAST = 1e-30  # probability that stands for 0 in a logarithm
SHARE = 0.1  # of the rows that are looked at as validation


@dataclass(frozen=True, kw_only=True)
class Glister:
    """Greedy gain of the validation loss, the last layer updated by a Taylor step in between (Killamsetty et al. 2021).

    In each of 20 rounds the samples of the largest inner product between their gradient and the validation gradient,
    whose parameters are theta_0 - 0.1 times the mean theta_0-gradient of all that is chosen. Validation is a seeded,
    stratified tenth of the rows (at least one a class), which stay candidates; never the test split.
    """

    needs: ClassVar[tuple[str, ...]] = ("features", "probabilities")
    cost: ClassVar[str] = "20 n d classes"
    rounds: int = 20
    step_size: float = 0.1
    per_class: bool = False

    def __post_init__(self) -> None:
        require(self.rounds >= 1, "rounds", ">= 1", self.rounds)
        require(self.step_size >= 0, "step_size", ">= 0", self.step_size)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        def order(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
            held = draw_validation(scores.labels, rows, rng)
            rows = rng.permutation(rows)
            training = read_gradients(scores, rows)
            validation = read_gradients(scores, held)
            log_p = np.log(np.maximum(read_rows(scores, "probabilities", held), LEAST))
            classes = scores.labels[held]
            return rows[gain_greedily(training, validation, log_p, classes, n, self.rounds, self.step_size)]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def draw_validation(labels: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    """A stratified tenth of the rows, at least one a class."""
    drawn = [rng.permutation(rows[labels[rows] == k]) for k in np.unique(labels[rows])]
    return np.concatenate([own[: max(int(SHARE * len(own) + 0.5), 1)] for own in drawn])


def gain_greedily(
    training: Gradients, validation: Gradients, log_p: Floats, labels: Ints, count: int, rounds: int, step_size: float
) -> Ints:
    """Places of the training rows in the order of choice, the first of equal ones first.

    Args:
        training: gradients at theta_0 of the candidates.
        validation: likewise of the validation rows; its inputs are those of the last layer.
        log_p: [v, classes] of the validation rows at theta_0.
        labels: [v] of the validation rows.
        count: how many.
        rounds: of choice.
        step_size: of the Taylor step; 0 switches the update off.
    """
    chosen = np.zeros(0, np.int64)
    free = np.ones(len(training.error), bool)
    total = np.zeros((training.error.shape[1], training.inputs.shape[1]), np.float32)
    for batch in np.array_split(np.arange(count), min(rounds, count)):
        logits = log_p - step_size / max(len(chosen), 1) * (validation.inputs @ total.T)
        error = np.exp(logits - logits.max(1, keepdims=True))
        error /= error.sum(1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        slope = error.T @ validation.inputs / len(labels)  # of the validation loss, [classes, d]
        gains = np.einsum("nc,nc->n", training.error, training.inputs @ slope.T)
        gains[~free] = -np.inf
        added = np.argsort(-gains, kind="stable")[: len(batch)]
        free[added] = False
        total += training.error[added].T @ training.inputs[added]
        chosen = np.concatenate([chosen, added])
    return chosen
