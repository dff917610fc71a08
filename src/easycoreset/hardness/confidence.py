"""The probability of the true class over the first epochs: DUAL's score, and the mean error that it draws by."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from easycoreset.errors import require
from easycoreset.hardness import Hardness, Outputs
from easycoreset.hardness.folds import Fold, Values, WindowedDeviation
from easycoreset.hardness.logits import p_y

FIRST = 30  # scored epochs


@dataclass(frozen=True, kw_only=True)
class Dual(Hardness):
    """Mean over windows of 10 of the first epochs of the deviation of p_y times its mean error (Cho et al. 2025)."""

    column = "p_y"
    online = True
    on_request = True
    first: int = FIRST

    def __post_init__(self) -> None:
        require(self.first >= 2, "first", ">= 2", self.first)

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] (a read-only value)
        """Its column in the scores: dual, dual_60, ..."""
        return "dual" if self.first == FIRST else f"dual_{self.first}"

    def measure(self, outputs: Outputs) -> Tensor:
        """p_y of one epoch, [B]."""
        return p_y(outputs)

    def fold(self) -> Fold:
        """Windows of the first epochs."""
        return WindowedDeviation(limit=self.first, times_error=True)


@dataclass(frozen=True, kw_only=True)
class MeanError(Hardness):
    """1 minus the mean of p_y over the first epochs."""

    column = "p_y"
    online = True
    on_request = True
    first: int = FIRST

    def __post_init__(self) -> None:
        require(self.first >= 1, "first", ">= 1", self.first)

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] (a read-only value)
        """Its column in the scores: mean_error, mean_error_60, ..."""
        return "mean_error" if self.first == FIRST else f"mean_error_{self.first}"

    def measure(self, outputs: Outputs) -> Tensor:
        """p_y of one epoch, [B]."""
        return p_y(outputs)

    def fold(self) -> Fold:
        """The mean error."""
        return ErrorMean(self.first)


class ErrorMean:
    """1 minus the mean over the first observed epochs.

    >>> fold = ErrorMean(2)
    >>> for values in (0.5, 0.75, 0.0):
    ...     fold.add(np.array([values]))
    >>> fold.result().tolist()
    [0.375]
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sum = np.zeros(0)
        self.count = np.zeros(0, np.int64)

    def add(self, values: Values) -> None:
        """Add one epoch, [N]."""
        if not len(self.sum):
            self.sum = np.zeros(len(values))
            self.count = np.zeros(len(values), np.int64)
        seen = np.isfinite(values) & (self.count < self.limit)
        self.sum[seen] += values[seen]
        self.count += seen

    def result(self) -> npt.NDArray[np.float32]:
        """The mean errors, [N]."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (1 - self.sum / self.count).astype(np.float32)
