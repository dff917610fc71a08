"""GLISTER: the samples whose gradients most reduce the loss on validation samples."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from easycoreset.errors import require
from easycoreset.selection.geometry import Gradients, read_gradients, read_rows
from easycoreset.selection.row_selection import choose_rows
from easycoreset.tables import Coreset, Floats, Ints, Scores

MIN_PROBABILITY = 1e-30  # replaces smaller ones in logarithms
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Glister:
    """Greedy gain of the validation loss, the last layer updated by a Taylor step in between (Killamsetty et al. 2021).

    Each of 20 rounds adds the samples with the largest inner product of their gradient and the validation gradient,
    taken at theta_0 - 0.1 times the mean theta_0-gradient of the chosen samples. Validation is a seeded, stratified
    tenth of the rows (at least one per class), which stay candidates; never the test split.
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
            validation_rows = draw_validation(scores.labels, rows, rng)
            rows = rng.permutation(rows)
            training = read_gradients(scores, rows)
            validation = read_gradients(scores, validation_rows)
            log_p = np.log(np.maximum(read_rows(scores, "probabilities", validation_rows), MIN_PROBABILITY))
            labels = scores.labels[validation_rows]
            return rows[choose_greedily(training, validation, log_p, labels, n, self.rounds, self.step_size)]

        return choose_rows(scores, count, seed, order, per_class=self.per_class)


def draw_validation(labels: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    """A stratified tenth of the rows, at least one per class."""
    by_class = [rng.permutation(rows[labels[rows] == k]) for k in np.unique(labels[rows])]
    return np.concatenate([members[: max(int(VALIDATION_SHARE * len(members) + 0.5), 1)] for members in by_class])


def choose_greedily(
    training: Gradients, validation: Gradients, log_p: Floats, labels: Ints, count: int, rounds: int, step_size: float
) -> Ints:
    """Choose positions of training rows, in order of choice; of equal gains the first row wins.

    Args:
        training: gradients of the candidates at theta_0.
        validation: gradients of the validation rows at theta_0; its `inputs` are those of the last layer.
        log_p: [v, classes] log-probabilities of the validation rows at theta_0.
        labels: [v] labels of the validation rows.
        count: number of rows to choose.
        rounds: number of rounds.
        step_size: size of the Taylor step; 0 disables the update.
    """
    chosen = np.zeros(0, np.int64)
    free = np.ones(len(training.error), bool)
    total = np.zeros((training.error.shape[1], training.inputs.shape[1]), np.float32)
    for batch in np.array_split(np.arange(count), min(rounds, count)):
        logits = log_p - step_size / max(len(chosen), 1) * (validation.inputs @ total.T)
        error = np.exp(logits - logits.max(1, keepdims=True))
        error /= error.sum(1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        gradient = error.T @ validation.inputs / len(labels)  # of the validation loss, [classes, d]
        gains = np.einsum("nc,nc->n", training.error, training.inputs @ gradient.T)
        gains[~free] = -np.inf
        added = np.argsort(-gains, kind="stable")[: len(batch)]
        free[added] = False
        total += training.error[added].T @ training.inputs[added]
        chosen = np.concatenate([chosen, added])
    return chosen
