"""One epoch's values, gathered batch by batch in any order and by any number of processes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from easycoreset.processes import add_up, leads, lowest, meeting_place, rank, world_size


class Gathered:
    """Sums and counts of K columns by index, [K, N]; a sample seen twice in the epoch has its mean.

    Columns named in `first` keep a sample's first value instead: a mean of right and wrong is neither.
    """

    def __init__(self, columns: Sequence[str], size: int, first: Sequence[str] = ()) -> None:
        self.columns = list(columns)
        self._first = [row for row, name in enumerate(self.columns) if name in first]
        self._means = [row for row, name in enumerate(self.columns) if name not in first]
        self._sum = torch.zeros((len(self.columns), size), dtype=torch.float64)
        self._count = torch.zeros((len(self.columns), size), dtype=torch.int32)
        self._bad = torch.zeros(len(self.columns), dtype=torch.int64)

    @property
    def seen(self) -> bool:
        """Whether there is a value at all."""
        return bool(self._count.any())

    def add(self, values: Sequence[Tensor], index: Tensor) -> None:
        """Take in K times [B] values of the samples `index` [B]; those that are not finite are counted and left out."""
        if not values:
            return
        stacked = torch.stack(list(values))
        if self._sum.device != stacked.device:
            self._move(stacked.device)
        finite = torch.isfinite(stacked)
        stacked = torch.where(finite, stacked, 0).to(self._sum.dtype)
        for row in self._first:
            new = finite[row] & (self._count[row, index] == 0)
            # backwards, so that of the same sample twice in a batch the first one stays
            kept = torch.where(new, stacked[row], self._sum[row, index]).flip(0)
            self._sum[row, index.flip(0)] = kept
        if not self._first:
            self._sum.index_add_(1, index, stacked)
        else:
            for row in self._means:
                self._sum[row].index_add_(0, index, stacked[row])
        self._count.index_add_(1, index, finite.to(self._count.dtype))
        self._bad += (~finite).sum(1)

    def unite(self, keep_all: bool = True) -> None:
        """Add what the other processes gathered; unless `keep_all`, the first alone keeps it."""
        if world_size() == 1 or not self.columns:
            return
        if meeting_place().type == "cuda":
            self._move(meeting_place())
        for row in self._first:
            owner = torch.where(self._count[row] > 0, rank(), world_size())
            first = owner.clone()
            lowest(first)
            self._sum[row].masked_fill_(owner != first, 0)
        add_up(self._sum, self._count, self._bad)
        if not (keep_all or leads()):
            self.clear()

    def values(self) -> Tensor:
        """[K, N]; NaN where a sample was not seen."""
        divisor = self._count.clamp_min(1)
        for row in self._first:
            divisor[row] = 1
        return torch.where(self._count > 0, self._sum / divisor, float("nan"))

    def nonfinite(self) -> dict[str, int]:
        """Column -> how many values were not finite, where there were any."""
        return {name: bad for name, bad in zip(self.columns, self._bad.tolist(), strict=True) if bad}

    def clear(self) -> None:
        """Begin the next epoch."""
        for values in (self._sum, self._count, self._bad):
            values.zero_()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        held = {"sum": self._sum, "count": self._count, "bad": self._bad}
        return {name: value.detach().cpu().clone() for name, value in held.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; of several processes the first alone takes what it holds."""
        for name, own in (("sum", self._sum), ("count", self._count), ("bad", self._bad)):
            if state[name].shape != own.shape:
                raise ValueError(f"{name} must be of shape {tuple(own.shape)}; got {tuple(state[name].shape)}")
            own.copy_(state[name])
        if not leads():
            self.clear()

    def _move(self, device: torch.device) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._sum = self._sum.to(device, wide)
        self._count = self._count.to(device)
        self._bad = self._bad.to(device)
