"""Features, last-layer gradients and distances in float32, for one class or chunk at a time."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.errors import UsageError
from easycoreset.tables import Floats, Ints, Scores

CHUNK = 1024  # rows processed at a time
ROUNDING_TOLERANCE = 1e-9  # squared distances below this share of the squared norms may be rounding errors


def read_rows(scores: Scores, name: str, rows: Ints) -> Floats:
    """Read rows of the array `name` (features or probabilities), [len(rows), d] float32.

    Raises:
        UsageError: the array was not saved, or contains NaN (the message names the rows).
    """
    array: Any = getattr(scores, name)
    if array is None and scores.features_problem:
        raise UsageError(scores.features_problem)
    if array is None:
        flag = "--save-features adversarial" if name.endswith("_adv") else "--save-features"
        raise UsageError(
            f"the scores have no {name}: to add them, run `easycoreset score ... {flag}` with the options and the "
            "--out of the run that made the scores"
        )
    if len(array) != len(scores):
        raise UsageError(f"{name} must be [{len(scores)}, d], one row per sample; got {len(array)} rows")
    values = np.asarray(array[rows], np.float32)
    min_columns = int(scores.labels.max()) + 1 if name.startswith("probabilities") else 1
    if values.ndim != 2 or values.shape[1] < min_columns:
        raise UsageError(
            f"{name} must be [{len(scores)}, {min_columns} or more]; got {(len(array), *values.shape[1:])}"
        )
    invalid = rows[~np.isfinite(values).all(1)]
    if len(invalid):
        examples = ", ".join(str(row) for row in np.sort(invalid)[:5])
        raise UsageError(
            f"{name} must be finite; {len(invalid)} rows are not: {examples}{', ...' * (len(invalid) > 5)}"
        )
    return values


@dataclass(frozen=True)
class Gradients:
    """Gradients of per-sample losses with respect to the last layer, (p - 1_y) x (h, 1), stored as two factors.

    Attributes:
        error: [n, classes] float32, p - 1_y.
        inputs: [n, d] or [n, d + 1] float32: h, followed by 1 if the layer has a bias.
    """

    error: Floats
    inputs: Floats


@dataclass(frozen=True)
class GradientSum:
    """Gradients that are sums of outer products as in `Gradients`, for example of a clean and an adversarial pass.

    Attributes:
        terms: the products, of the same n rows.
    """

    terms: tuple[Gradients, ...]

    def take(self, rows: Ints) -> "GradientSum":
        """The gradients of the rows `rows`."""
        return GradientSum(tuple(Gradients(term.error[rows], term.inputs[rows]) for term in self.terms))

    def pair_distances(self) -> Floats:
        """Squared distances of all pairs, [n, n], by inner products, without forming the outer products."""
        terms = [(term.inputs.astype(np.float64), term.error.astype(np.float64)) for term in self.terms]
        pairs = list(itertools.product(terms, terms))
        products = (np.einsum("nd,nd->n", a, b) * np.einsum("nc,nc->n", e, f) for (a, e), (b, f) in pairs)
        norms: npt.NDArray[np.float64] = functools.reduce(np.add, products)
        distances = np.empty((len(norms), len(norms)), np.float32)
        for (rows,) in in_chunks(np.arange(len(norms))):
            products = ((a[rows] @ b.T) * (e[rows] @ f.T) for (a, e), (b, f) in pairs)
            inner = functools.reduce(np.add, products)
            distances[rows] = np.maximum(norms[rows, None] + norms - 2 * inner, 0)
        np.fill_diagonal(distances, 0)
        return distances

    def mean(self) -> Floats:
        """Their mean, [classes * d]."""
        total = functools.reduce(np.add, (term.error.T @ term.inputs for term in self.terms))
        return (total.ravel() / len(self.terms[0].error)).astype(np.float32)

    def of_logit(self, label: int) -> Floats:
        """The part that belongs to one logit, [n, d]."""
        return functools.reduce(np.add, (term.error[:, label, None] * term.inputs for term in self.terms))


def read_gradients(scores: Scores, rows: Ints, *, adversarial: bool = False) -> Gradients:
    """The last-layer gradients of the samples `rows`, clean or at PGD examples."""
    suffix = "_adv" if adversarial else ""
    error = read_rows(scores, f"probabilities{suffix}", rows)
    error[np.arange(len(rows)), scores.labels[rows]] -= 1
    inputs = read_rows(scores, f"features{suffix}", rows)
    if scores.bias:
        inputs = np.concatenate([inputs, np.ones((len(rows), 1), np.float32)], 1)
    return Gradients(error, inputs)


def gradient_arrays(gradients: str) -> tuple[str, ...]:
    """The arrays needed for last-layer gradients, clean or adversarial."""
    return ("features", "probabilities") if gradients == "clean" else ("features_adv", "probabilities_adv")


def squared_norms(values: Floats) -> Floats:
    """Squared norms of the rows, [n]."""
    return np.einsum("nd,nd->n", values, values)


def normalise_rows(values: Floats) -> Floats:
    """The rows divided by their norms; a zero row stays zero."""
    norms: Floats = np.sqrt(squared_norms(values))
    norms[norms == 0] = 1
    return np.divide(values, norms[:, None], dtype=np.float32)


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances [len(a), len(b)], by inner products in float64.

    Where cancellation makes them inexact, they are recomputed from differences: equal rows have distance 0.
    """
    b64 = b.astype(np.float64)
    b_norms = squared_norms(b).astype(np.float64)
    result = np.empty((len(a), len(b)), np.float32)
    for (rows,) in in_chunks(np.arange(len(a))):
        block = a[rows].astype(np.float64)
        norms = np.einsum("nd,nd->n", block, block)[:, None] + b_norms
        distances = norms - 2 * (block @ b64.T)
        positions, columns = np.nonzero(distances < ROUNDING_TOLERANCE * norms)
        for p, c in in_chunks(positions, columns):
            distances[p, c] = squared_norms(a[rows[p]] - b[c])
        result[rows] = np.maximum(distances, 0)
    return result


def in_chunks(*arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Yield `CHUNK` rows of each array at a time."""
    for start in range(0, len(arrays[0]), CHUNK):
        yield tuple(array[start : start + CHUNK] for array in arrays)
