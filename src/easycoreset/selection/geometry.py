"""Features, last-layer gradients and distances, in float32 and never larger than one class or chunk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.errors import UsageError
from easycoreset.tables import Floats, Ints, Scores

CHUNK = 4096  # rows that are looked at together
NEAR = 1e-3  # squared distances below this share of the squared norms lose too many digits to cancellation


def read_rows(scores: Scores, name: str, rows: Ints) -> Floats:
    """Rows of the features or probabilities `name`, [len(rows), d] float32.

    Raises:
        UsageError: they were not saved, or hold NaN (the samples are named).
    """
    array: Any = getattr(scores, name)
    if array is None:
        wanted = "--save-features adversarial" if name.endswith("_adv") else "--save-features"
        raise UsageError(f"the scores have no {name}: `easycoreset score ... {wanted}`, with the options and the --out "
                         "of the run that made them, adds them")  # fmt: skip
    values = np.asarray(array[rows], np.float32)
    wrong = rows[~np.isfinite(values).all(1)]
    if len(wrong):
        named = ", ".join(str(row) for row in np.sort(wrong)[:5])
        raise UsageError(f"{name} must be finite; {len(wrong)} rows are not: {named}{', ...' * (len(wrong) > 5)}")
    return values


@dataclass(frozen=True)
class Gradients:
    """Gradients of samples' losses with respect to the last layer, (p - 1_y) x (h, 1), as their two factors.

    Attributes:
        error: [n, classes] float32, p - 1_y.
        inputs: [n, d] or [n, d + 1] float32: h, and 1 where the layer has a bias.
    """

    error: Floats
    inputs: Floats

    def pair_distances(self) -> Floats:
        """Squared distances of all pairs, [n, n], by inner products: the outer product is never formed."""
        inner = self.inputs @ self.inputs.T
        inner *= self.error @ self.error.T
        own = np.diag(inner).copy()
        inner *= -2
        inner += own
        inner += own[:, None]
        np.fill_diagonal(inner, 0)
        return np.maximum(inner, 0, out=inner)


def read_gradients(scores: Scores, rows: Ints, *, adversarial: bool = False) -> Gradients:
    """The last-layer gradients of some samples, clean or at PGD examples."""
    tail = "_adv" if adversarial else ""
    error = read_rows(scores, f"probabilities{tail}", rows)
    error[np.arange(len(rows)), scores.labels[rows]] -= 1
    inputs = read_rows(scores, f"features{tail}", rows)
    if scores.bias:
        inputs = np.concatenate([inputs, np.ones((len(rows), 1), np.float32)], 1)
    return Gradients(error, inputs)


def square_norms(values: Floats) -> Floats:
    """Of the rows, [n]."""
    return np.einsum("nd,nd->n", values, values)


def unit_rows(values: Floats) -> Floats:
    """The rows divided by their norms; a zero row stays zero."""
    norms: Floats = np.sqrt(square_norms(values))
    norms[norms == 0] = 1
    return np.divide(values, norms[:, None], dtype=np.float32)


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances [len(a), len(b)] by inner products, small ones again by differences.

    Equal rows have distance 0, as the inner products alone would not say.
    """
    sizes = square_norms(a)[:, None] + square_norms(b)
    found = a @ b.T
    found *= -2
    found += sizes
    sizes *= NEAR
    for rows, columns in in_chunks(*np.nonzero(found < sizes)):
        found[rows, columns] = square_norms(a[rows] - b[columns])
    return found


def in_chunks(*arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Some rows of each array at a time."""
    for start in range(0, len(arrays[0]), CHUNK):
        yield tuple(array[start : start + CHUNK] for array in arrays)
