"""The probability of the true class over the first epochs: DUAL's score, and the mean error that it draws by."""

from dataclasses import dataclass

from torch import Tensor

from easycoreset.errors import require
from easycoreset.hardness import Hardness, Outputs
from easycoreset.hardness.folds import Fold, Mean, WindowedDeviation
from easycoreset.hardness.logits import p_y

FIRST = 30  # scored epochs


@dataclass(frozen=True, kw_only=True)
class Dual(Hardness):
    """Mean over windows of 10 of the first epochs of std(p_y) times (1 - mean p_y) in the window (Cho et al. 2025)."""

    column = "p_y"
    online = True
    only_if_named = True
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
    only_if_named = True
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
        return Mean(self.first, complement=True)
