"""Which rows of a batch an attack still works on, without letting the host wait for a GPU."""

import torch
from torch import Tensor

from easycoreset.attacks.ball import per_sample_view

DROP_EVERY = 5  # steps on a device; on the CPU broken rows are dropped at once
SHARES = 8  # a batch on a device is only ever cut to eighths of its size, so that few shapes occur


class OpenRows:
    """Selects the rows that are not broken yet.

    On the CPU these are all of them after each step. On a device, where knowing their number would make the host wait,
    the number of `DROP_EVERY` steps before is used: it has arrived meanwhile, and there are no more of them now.
    """

    def __init__(self) -> None:
        self._full = 0
        self._counted: tuple[Tensor, torch.cuda.Event | None] | None = None

    def select(self, done: Tensor, step: int) -> Tensor | None:
        """The positions of the rows to keep, open ones first; None to keep all.

        Args:
            done: [B] bool.
            step: number of the step.
        """
        if done.device.type == "cpu":
            return (~done).nonzero().squeeze(1) if bool(done.any()) else None
        self._full = self._full or len(done)
        if step % DROP_EVERY != DROP_EVERY - 1:
            return None
        count, self._counted = self._counted, _start_count(~done)
        if count is None:
            return None
        share = -(-self._full // SHARES)
        size = min(-(-_finish_count(*count) // share) * share, len(done))
        return None if size == len(done) else done.byte().argsort(stable=True)[:size]


def write_rows(result: Tensor, rows: Tensor, chosen: Tensor, values: Tensor) -> None:
    """Write the chosen ones of `values` [B,C,H,W] to their rows of `result`; on a device in a fixed shape."""
    if chosen.device.type == "cpu":
        if bool(chosen.any()):
            result[rows[chosen]] = values[chosen]
    else:
        result[rows] = torch.where(per_sample_view(chosen), values, result[rows])


def _start_count(mask: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Begin to copy the number of true values to the host."""
    count = mask.sum().to("cpu", non_blocking=True)
    if not mask.is_cuda:
        return count, None
    event = torch.cuda.Event()
    event.record()
    return count, event


def _finish_count(count: Tensor, event: torch.cuda.Event | None) -> int:
    if event is not None:
        event.synchronize()
    return int(count)
