"""Several processes of one run (torch.distributed): who this one is, and what they add up or tell each other."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn


def several() -> bool:
    """Whether this process is one of several that work together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if several() else 0


def world_size() -> int:
    """How many processes work together."""
    return distributed.get_world_size() if several() else 1


def leads() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def launched() -> bool:
    """Whether torchrun (or another launcher) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launched_rank() -> int:
    """The number that the launcher gave this process, before it has met the others."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def own_gpu() -> int:
    """Which GPU of its machine this process takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join(device: torch.device) -> None:
    """Meet the other processes that a launcher started; does nothing where there are none or they have met."""
    if launched() and not distributed.is_initialized():
        # Imported later (an optimizer does), its functions' defaults hold the group for ever: its threads outlive
        # `leave` and abort a process that is ending.
        import torch.distributed.nn.functional

        if device.type == "cuda":
            torch.cuda.set_device(device)
        kind = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(kind, timeout=timedelta(days=1))  # one may compute long while the others wait


def meeting_place() -> torch.device:
    """Where tensors must lie that processes add up."""
    cuda = several() and distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def add_up(*values: Tensor) -> None:
    """Replace each tensor by its sum over the processes, in place."""
    for value in values if several() else ():
        distributed.all_reduce(value)


def lowest(value: Tensor) -> None:
    """Replace a tensor by its smallest value over the processes, in place."""
    if several():
        distributed.all_reduce(value, distributed.ReduceOp.MIN)


def tell(value: Any) -> Any:
    """What the first process has, on all of them; picklable."""
    if not several():
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def agree(model: nn.Module) -> None:
    """Give all processes the parameters of the first, and the mean of their running statistics (batch norm's)."""
    if not several():
        return
    with torch.no_grad():
        for module in model.modules():
            for name in ("running_mean", "running_var"):
                if isinstance(statistic := getattr(module, name, None), Tensor):
                    distributed.all_reduce(statistic)
                    statistic /= world_size()
        for value in (*model.parameters(), *model.buffers()):
            distributed.broadcast(value.data, src=0)


def leave() -> None:
    """Part from the other processes, so that nobody waits for this one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Give the caller's process its random state and its number of threads back, whatever is done meanwhile."""
    threads = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
