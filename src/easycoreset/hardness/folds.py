"""Folds: reduce the values of all scored epochs, one epoch at a time, to one number per sample.

A value that is not finite counts as not observed. Memory does not grow with the number of epochs.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Values = npt.NDArray[np.floating]


class Fold(Protocol):
    """Reduces epochs to one number per sample."""

    def add(self, values: Any) -> None:
        """Add the values of one epoch, an array [N]; for a wide measure a tensor [n, d] on the device."""
        ...

    def result(self) -> npt.NDArray[np.float32]:
        """The folded values, [N]; NaN for samples that were never observed."""
        ...


class Mean:
    """The mean over observed epochs, or over the first `limit` of them; with `complement` 1 minus it.

    >>> fold = Mean()
    >>> fold.add(np.array([1.0, np.nan])); fold.add(np.array([2.0, np.nan]))
    >>> fold.result().tolist()
    [1.5, nan]
    """

    def __init__(self, limit: int | None = None, complement: bool = False) -> None:
        self.limit = limit
        self.complement = complement
        self.sum = np.zeros(0)
        self.count = np.zeros(0, np.int64)

    def add(self, values: Values) -> None:
        if not len(self.sum):
            self.sum = np.zeros(len(values))
            self.count = np.zeros(len(values), np.int64)
        seen = np.isfinite(values)
        if self.limit is not None:
            seen &= self.count < self.limit
        self.sum[seen] += values[seen]
        self.count += seen

    def result(self) -> npt.NDArray[np.float32]:
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.sum / self.count
            return (1 - mean if self.complement else mean).astype(np.float32)


class Last:
    """The last observed value."""

    def __init__(self) -> None:
        self.value = np.zeros(0, np.float32)

    def add(self, values: Values) -> None:
        if not len(self.value):
            self.value = np.full(len(values), np.nan, np.float32)
        seen = np.isfinite(values)
        self.value[seen] = values[seen]

    def result(self) -> npt.NDArray[np.float32]:
        return self.value.copy()  # `value` changes with later epochs


class ForgettingEvents:
    """How often 1 (correct) was followed by 0; without any 1, the number of observed epochs (Toneva et al. 2019).

    >>> fold = ForgettingEvents()
    >>> for correct in ([1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]):
    ...     fold.add(np.array(correct, float))
    >>> fold.result().tolist()
    [2.0, 1.0, 0.0, 4.0]
    """

    def __init__(self) -> None:
        self.before = self.ever = np.zeros(0, bool)
        self.events = self.count = np.zeros(0, np.int64)

    def add(self, values: Values) -> None:
        if not len(self.before):
            self.before = np.zeros(len(values), bool)
            self.ever = np.zeros(len(values), bool)
            self.events = np.zeros(len(values), np.int64)
            self.count = np.zeros(len(values), np.int64)
        seen = np.isfinite(values)
        correct = values == 1
        self.events += seen & self.before & ~correct
        self.count += seen
        self.ever |= seen & correct
        self.before = np.where(seen, correct, self.before)

    def result(self) -> npt.NDArray[np.float32]:
        result = np.where(self.ever, self.events, self.count).astype(np.float32)
        result[self.count == 0] = np.nan
        return result


class WindowedDeviation:
    """Mean standard deviation (ddof 1) over all windows of 10 observed epochs; one window if there are fewer epochs.

    He et al. 2023, whose code drops the last window. NaN if fewer than two epochs were observed. With `limit` only the
    first observed epochs count; with `times_error` each window's deviation is multiplied by 1 minus its mean.

    >>> fold = WindowedDeviation()
    >>> fold.add(np.array([0.2])); fold.add(np.array([0.6]))
    >>> bool(np.isclose(fold.result()[0], 0.4 / np.sqrt(2)))
    True
    """

    def __init__(self, window: int = 10, limit: int | None = None, times_error: bool = False) -> None:
        self.window = window
        self.limit = limit
        self.times_error = times_error
        self.ring = np.zeros((window, 0))
        self.sum = np.zeros(0)
        self.count = np.zeros(0, np.int64)

    def add(self, values: Values) -> None:
        if not len(self.sum):
            self.ring = np.zeros((self.window, len(values)))
            self.sum = np.zeros(len(values))
            self.count = np.zeros(len(values), np.int64)
        seen = np.isfinite(values)
        rows = np.flatnonzero(seen if self.limit is None else seen & (self.count < self.limit))
        self.ring[self.count[rows] % self.window, rows] = values[rows]
        self.count[rows] += 1
        full = rows[self.count[rows] >= self.window]
        self.sum[full] += self._value(self.ring[:, full])

    def result(self) -> npt.NDArray[np.float32]:
        result = self.sum / np.maximum(self.count - self.window + 1, 1)
        for count in range(2, self.window):
            short = self.count == count
            if short.any():
                result[short] = self._value(self.ring[:count, short])
        result[self.count < 2] = np.nan
        return result.astype(np.float32)

    def _value(self, window: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The value of windows [epochs, n]."""
        deviation = window.std(0, ddof=1)
        return deviation * (1 - window.mean(0)) if self.times_error else deviation


def fold_state(fold: Fold) -> dict[str, Any]:
    """The state of a fold for a checkpoint: its arrays, as tensors."""
    return {name: torch.tensor(value) for name, value in vars(fold).items() if isinstance(value, np.ndarray)}


def load_fold_state(fold: Fold, state: dict[str, Any]) -> None:
    """Restore the state of a checkpoint."""
    if set(state) != set(fold_state(fold)):
        raise KeyError(f"a fold has {sorted(fold_state(fold))}")
    for name, value in state.items():
        setattr(fold, name, value.numpy().copy())
