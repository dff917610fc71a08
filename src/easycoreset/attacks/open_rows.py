"""Which rows of a batch an attack still works on, without letting the host wait for a GPU."""

import torch
from torch import Tensor

from easycoreset.attacks.ball import per_sample_view

COUNT_EVERY = 5  # steps between two counts on a device
SHARES = 8  # a batch on a device is only ever cut to eighths of its size, so that few shapes occur


class DelayedCount:
    """An upper bound on the number of true values in a mask whose true values only become false.

    On the CPU the bound is exact. On a GPU, reading the exact number would make the host wait; the bound is then
    the number at least `COUNT_EVERY` calls earlier, which has been copied meanwhile and is at least as large.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._known: int | None = None
        self._copied: tuple[Tensor, torch.cuda.Event | None] | None = None

    def upper_bound(self, mask: Tensor) -> int:
        """The upper bound on the number of true values in a mask [B]."""
        if mask.device.type == "cpu":
            return int(mask.sum())
        if self._calls % COUNT_EVERY == 0:
            self._known = None if self._copied is None else _finish_copy(*self._copied)
            self._copied = _start_copy(mask.sum())
        self._calls += 1
        return len(mask) if self._known is None else self._known


class OpenRows:
    """Selects the rows of a batch that are not broken yet; on a GPU some broken rows remain among them."""

    def __init__(self) -> None:
        self._count = DelayedCount()
        self._share = 0

    def select(self, done: Tensor) -> Tensor | None:
        """The positions of the rows to keep, those that are not broken first; None to keep all.

        Args:
            done: [B] bool, whether each row is broken, of the rows that were kept before.
        """
        count = self._count.upper_bound(~done)
        if done.device.type == "cpu":
            return None if count == len(done) else (~done).nonzero().squeeze(1)
        self._share = self._share or -(-len(done) // SHARES)
        size = min(-(-count // self._share) * self._share, len(done))
        return None if size == len(done) else done.byte().argsort(stable=True)[:size]


def write_rows(result: Tensor, rows: Tensor, chosen: Tensor, values: Tensor) -> None:
    """Write the `values` [B,C,H,W] that `chosen` [B] marks to the rows `rows` [B] of `result`."""
    if chosen.device.type == "cpu":
        if bool(chosen.any()):
            result[rows[chosen]] = values[chosen]
    else:
        result[rows] = torch.where(per_sample_view(chosen), values, result[rows])


def _start_copy(count: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Begin to copy a number to the host."""
    copied = count.to("cpu", non_blocking=count.device.type != "mps")  # mps has no event to wait for
    if not count.is_cuda:
        return copied, None
    event = torch.cuda.Event()
    event.record()
    return copied, event


def _finish_copy(copied: Tensor, event: torch.cuda.Event | None) -> int:
    if event is not None:
        event.synchronize()
    return int(copied)
