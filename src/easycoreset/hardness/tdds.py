"""TDDS: how much the predicted distribution moves from epoch to epoch, by windows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easycoreset.hardness import Hardness, Outputs, Workload
from easycoreset.hardness.accumulator import EpochAccumulator
from easycoreset.hardness.folds import Fold, Values

WINDOW = 10  # epochs, so 9 differences
DECAY = 0.1  # of earlier windows
SMALL = 1e-8


@dataclass(frozen=True, kw_only=True)
class TDDS(Hardness):
    """Deviation of the changes of p within windows of 10 epochs; the last window weighs most (Zhang et al. 2024).

    d_t = sum over classes of |p_t log((p_t + 1e-8) / (p_(t-1) + 1e-8))|; a window's value is the L2 norm of d - mean d;
    the windows' moving average weighs the last with 0.9, as in the authors' code. NaN for fewer than 10 epochs.
    """

    name = "tdds"
    column = "tdds"
    expensive = True
    is_wide = True
    online = True

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        disk = workload.epochs * workload.parameters * 4 / 2**20
        return (
            f"{workload.epochs} forward passes over {workload.samples} samples after training, the memory of their "
            f"probabilities, and {disk:.0f} MB for the weights of the scored epochs"
        )

    def count_passes(self, epochs: int) -> int:
        """One in every epoch."""
        return epochs

    def measure(self, outputs: Outputs) -> Tensor:
        """The probabilities of one epoch, [B, classes]."""
        return outputs.p

    def fold(self) -> Fold:
        """The changes from epoch to epoch, by windows."""
        return ChangeWindows()


def change(p: Tensor, previous: Tensor) -> Tensor:
    """d_t of each sample, [B], from its probabilities [B, classes] in two epochs.

    >>> change(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.5]])).tolist()
    [0.0]
    """
    return (p * ((p + SMALL) / (previous + SMALL)).log()).abs().sum(1)


class ChangeWindows:
    """`DifferenceWindows` of the changes between the probabilities [n, classes] of consecutive observed epochs."""

    def __init__(self) -> None:
        self.previous: Tensor | None = None
        self.windows = DifferenceWindows()

    def add(self, values: Tensor) -> None:
        """Add one epoch; a sample with a value that is not finite is not observed in it."""
        values = values.double() if values.device.type != "mps" else values
        if self.previous is None:
            self.previous = torch.full_like(values, float("nan"))
        self.windows.add(change(values, self.previous).cpu().numpy())
        observed = torch.isfinite(values).all(1, keepdim=True)
        self.previous = torch.where(observed, values, self.previous)

    def result(self) -> npt.NDArray[np.float32]:
        """The folded values, [n]."""
        return self.windows.result()


class RecordedChanges:
    """The changes of each sample's probabilities between recorded epochs, of N samples."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch: EpochAccumulator | None = None  # of [classes, N], once the number of classes is known
        self.previous: Tensor | None = None  # [N, classes]

    def add(self, p: Tensor, index: Tensor) -> None:
        """Add the probabilities [B, classes] of the samples `index` [B]."""
        if self.epoch is None:
            self.epoch = EpochAccumulator([str(label) for label in range(p.shape[1])], self.size)
        self.epoch.add(list(p.T), index)

    def end_epoch(self) -> npt.NDArray[np.float32] | None:
        """The changes since each sample's last epoch, [N], NaN without one; None if nothing was added."""
        if self.epoch is None:
            return None
        self.epoch.all_reduce()
        p = self.epoch.values().T.double().cpu()
        self.epoch.clear()
        previous = torch.full_like(p, float("nan")) if self.previous is None else self.previous
        self.previous = torch.where(torch.isfinite(p).all(1, keepdim=True), p, previous)
        return change(p, previous).float().numpy()

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint; all processes must call this, and the main process saves it."""
        if self.epoch is not None:
            self.epoch.all_reduce(keep_all=False)
        return {"previous": self.previous, "epoch": None if self.epoch is None else self.epoch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.previous = state["previous"]
        if state["epoch"] is not None:
            self.epoch = EpochAccumulator([str(label) for label in range(len(state["epoch"]["sum"]))], self.size)
            self.epoch.load_state_dict(state["epoch"])


class DifferenceWindows:
    """The moving average over windows of 9 differences of the L2 norm of their deviations from the window's mean."""

    def __init__(self) -> None:
        self.ring = np.zeros((WINDOW - 1, 0))
        self.average = np.zeros(0)
        self.count = np.zeros(0, np.int64)

    def add(self, values: Values) -> None:
        """Add the differences of one epoch, [N]; NaN where there is none."""
        if not len(self.average):
            self.ring = np.zeros((WINDOW - 1, len(values)))
            self.average = np.zeros(len(values))
            self.count = np.zeros(len(values), np.int64)
        rows: Any = np.flatnonzero(np.isfinite(values))
        self.ring[self.count[rows] % (WINDOW - 1), rows] = values[rows]
        self.count[rows] += 1
        full = rows[self.count[rows] >= WINDOW - 1]
        window = self.ring[:, full]
        norm = np.sqrt(((window - window.mean(0)) ** 2).sum(0))
        self.average[full] = (1 - DECAY) * norm + DECAY * self.average[full]

    def result(self) -> npt.NDArray[np.float32]:
        """The folded values, [N]; NaN for fewer than 9 differences."""
        return np.where(self.count >= WINDOW - 1, self.average, np.nan).astype(np.float32)
