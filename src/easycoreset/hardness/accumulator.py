"""Accumulation of one epoch's values over batches in any order and over processes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from easycoreset.process_group import (
    all_reduce_min,
    all_reduce_sum,
    collective_device,
    is_main_process,
    rank,
    world_size,
)

NO_ROW = 2**62


class EpochAccumulator:
    """Sums and counts of K columns by index, [K, N]; a sample seen twice in the epoch gets the mean of its values.

    Columns named in `first` keep a sample's first finite value instead: a mean of `correct` would be neither 0 nor 1.
    """

    def __init__(self, columns: Sequence[str], size: int, first: Sequence[str] = ()) -> None:
        self.columns = list(columns)
        self._first_columns = [row for row, name in enumerate(self.columns) if name in first]
        self._sum = torch.zeros((len(self.columns), size), dtype=torch.float64)
        self._count = torch.zeros((len(self.columns), size), dtype=torch.int32)
        self._nonfinite = torch.zeros(len(self.columns), dtype=torch.int64)
        self._first_row = torch.full((size if self._first_columns else 0,), NO_ROW)

    @property
    def has_values(self) -> bool:
        """Whether there is any value."""
        return bool(self._count.any())

    def add(self, values: Sequence[Tensor], index: Tensor) -> None:
        """Add a tensor [B] for each column, of the samples `index` [B]; nonfinite values are counted and left out."""
        if not values:
            return
        stacked = torch.stack(list(values))
        if self._sum.device != stacked.device:
            self._move(stacked.device)
        finite = torch.isfinite(stacked)
        stacked = torch.where(finite, stacked, 0).to(self._sum.dtype)
        rows = torch.arange(len(index), device=index.device)
        for column in self._first_columns:
            is_new = finite[column] & (self._count[column, index] == 0)
            new_rows = torch.where(is_new, rows, NO_ROW)
            self._first_row.scatter_reduce_(0, index, new_rows, "amin")  # a sample may be in the batch twice
            is_first = is_new & (rows == self._first_row[index])
            self._first_row[index] = NO_ROW
            stacked[column] = torch.where(is_first, stacked[column], 0)
        self._sum.index_add_(1, index, stacked)
        self._count.index_add_(1, index, finite.to(self._count.dtype))
        self._nonfinite += (~finite).sum(1)

    def all_reduce(self, keep_all: bool = True) -> None:
        """Add the values of the other processes; unless `keep_all`, only the main process keeps the sum."""
        if world_size() == 1 or not self.columns:
            return
        if collective_device().type == "cuda":
            self._move(collective_device())
        for row in self._first_columns:
            seen_by = torch.where(self._count[row] > 0, rank(), world_size())  # world_size: not seen here
            lowest_rank = seen_by.clone()
            all_reduce_min(lowest_rank)
            self._sum[row].masked_fill_(seen_by != lowest_rank, 0)
        all_reduce_sum(self._sum, self._count, self._nonfinite)
        if not (keep_all or is_main_process()):
            self.clear()

    def values(self) -> Tensor:
        """The values, [K, N]; NaN for samples that were not seen."""
        divisor = self._count.clamp_min(1)
        for row in self._first_columns:
            divisor[row] = 1  # the sum holds the first value alone
        return torch.where(self._count > 0, self._sum / divisor, float("nan"))

    def nonfinite(self) -> dict[str, int]:
        """Column -> number of nonfinite values, for columns with any."""
        return {name: count for name, count in zip(self.columns, self._nonfinite.tolist(), strict=True) if count}

    def clear(self) -> None:
        """Reset for the next epoch."""
        for values in (self._sum, self._count, self._nonfinite):
            values.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        tensors = {"sum": self._sum, "count": self._count, "bad": self._nonfinite}
        return {name: value.detach().cpu().clone() for name, value in tensors.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint; of several processes, only the main process gets the values."""
        for name, target in (("sum", self._sum), ("count", self._count), ("bad", self._nonfinite)):
            if state[name].shape != target.shape:
                raise ValueError(f"{name} must be of shape {tuple(target.shape)}; got {tuple(state[name].shape)}")
            target.copy_(state[name])
        if not is_main_process():
            self.clear()

    def _move(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sum = self._sum.to(device, dtype)
        self._count = self._count.to(device)
        self._nonfinite = self._nonfinite.to(device)
        self._first_row = self._first_row.to(device)
