"""Features, last-layer gradients and distances, in float32 and never larger than one class or chunk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.errors import UsageError
from easycoreset.tables import Floats, Ints, Scores

CHUNK = 1024  # rows that are looked at together
SAME = 1e-9  # squared distances below this share of the squared norms may be nothing but rounding


def read_rows(scores: Scores, name: str, rows: Ints) -> Floats:
    """Rows of the features or probabilities `name`, [len(rows), d] float32.

    Raises:
        UsageError: they were not saved, or hold NaN (the samples are named).
    """
    array: Any = getattr(scores, name)
    if array is None and scores.features_problem:
        raise UsageError(scores.features_problem)
    if array is None:
        wanted = "--save-features adversarial" if name.endswith("_adv") else "--save-features"
        raise UsageError(
            f"the scores have no {name}: `easycoreset score ... {wanted}`, with the options and the --out "
            "of the run that made them, adds them"
        )
    if len(array) != len(scores):
        raise UsageError(f"{name} must be [{len(scores)}, d], a row a sample; got {len(array)} rows")
    values = np.asarray(array[rows], np.float32)
    least = int(scores.labels.max()) + 1 if name.startswith("probabilities") else 1
    if values.ndim != 2 or values.shape[1] < least:
        raise UsageError(f"{name} must be [{len(scores)}, {least} or more]; got {(len(array), *values.shape[1:])}")
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
        inputs = self.inputs.astype(np.float64)
        error = self.error.astype(np.float64)
        own = np.einsum("nd,nd->n", inputs, inputs) * np.einsum("nc,nc->n", error, error)
        found = np.empty((len(own), len(own)), np.float32)
        for (rows,) in in_chunks(np.arange(len(own))):
            inner = (inputs[rows] @ inputs.T) * (error[rows] @ error.T)
            found[rows] = np.maximum(own[rows, None] + own - 2 * inner, 0)
        np.fill_diagonal(found, 0)
        return found


def read_gradients(scores: Scores, rows: Ints, *, adversarial: bool = False) -> Gradients:
    """The last-layer gradients of some samples, clean or at PGD examples."""
    tail = "_adv" if adversarial else ""
    error = read_rows(scores, f"probabilities{tail}", rows)
    error[np.arange(len(rows)), scores.labels[rows]] -= 1
    inputs = read_rows(scores, f"features{tail}", rows)
    if scores.bias:
        inputs = np.concatenate([inputs, np.ones((len(rows), 1), np.float32)], 1)
    return Gradients(error, inputs)


def needed_arrays(gradients: str) -> tuple[str, ...]:
    """What last-layer gradients, clean or adversarial, are made of."""
    return ("features", "probabilities") if gradients == "clean" else ("features_adv", "probabilities_adv")


def square_norms(values: Floats) -> Floats:
    """Of the rows, [n]."""
    return np.einsum("nd,nd->n", values, values)


def unit_rows(values: Floats) -> Floats:
    """The rows divided by their norms; a zero row stays zero."""
    norms: Floats = np.sqrt(square_norms(values))
    norms[norms == 0] = 1
    return np.divide(values, norms[:, None], dtype=np.float32)


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances [len(a), len(b)], by inner products in float64.

    Those that lose even its digits to cancellation are taken again by differences: equal rows have distance 0.
    """
    wide = b.astype(np.float64)
    own = square_norms(b).astype(np.float64)
    found = np.empty((len(a), len(b)), np.float32)
    for (rows,) in in_chunks(np.arange(len(a))):
        block = a[rows].astype(np.float64)
        sizes = np.einsum("nd,nd->n", block, block)[:, None] + own
        distances = sizes - 2 * (block @ wide.T)
        places, columns = np.nonzero(distances < SAME * sizes)
        for p, c in in_chunks(places, columns):
            distances[p, c] = square_norms(a[rows[p]] - b[c])
        found[rows] = np.maximum(distances, 0)
    return found


def in_chunks(*arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Some rows of each array at a time."""
    for start in range(0, len(arrays[0]), CHUNK):
        yield tuple(array[start : start + CHUNK] for array in arrays)
