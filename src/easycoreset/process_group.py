"""The processes of one distributed run (torch.distributed): ranks, sums and broadcasts."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn


def is_distributed() -> bool:
    """Whether this process is in a process group with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """The rank of this process, from 0."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes in the group."""
    return distributed.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Whether this is the main process (rank 0), which alone writes and logs."""
    return rank() == 0


def has_launcher() -> bool:
    """Whether torchrun (or another launcher) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """The index of the GPU that this process uses on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def init_process_group(device: torch.device) -> None:
    """Join the process group of a launcher; does nothing without a launcher or if the group exists already."""
    if has_launcher() and not distributed.is_initialized():
        # This module must be imported before the group exists. If an optimizer imports it later, default arguments of
        # its functions keep a reference to the group, whose threads then outlive `destroy_process_group` and abort the
        # process at exit.
        import torch.distributed.nn.functional

        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(days=1))  # a process may wait for another for hours


def collective_device() -> torch.device:
    """The device on which tensors must be for collective operations."""
    cuda = is_distributed() and distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def all_reduce_sum(*values: Tensor) -> None:
    """Replace each tensor by its sum over the processes, in place (all-reduce)."""
    for value in values if is_distributed() else ():
        distributed.all_reduce(value)


def all_reduce_min(value: Tensor) -> None:
    """Replace a tensor by its elementwise minimum over the processes, in place (all-reduce)."""
    if is_distributed():
        distributed.all_reduce(value, distributed.ReduceOp.MIN)


def broadcast(value: Any) -> Any:
    """Broadcast the value of the main process to all processes; it must be picklable."""
    if not is_distributed():
        return value
    objects = [value]
    distributed.broadcast_object_list(objects, src=0)
    return objects[0]


def sync_model(model: nn.Module) -> None:
    """Broadcast the main process's parameters, and average the running statistics of batch norm over the processes."""
    if not is_distributed():
        return
    with torch.no_grad():
        for module in model.modules():
            for name in ("running_mean", "running_var"):
                if isinstance(statistics := getattr(module, name, None), Tensor):
                    distributed.all_reduce(statistics)
                    statistics /= world_size()
        for value in (*model.parameters(), *model.buffers()):
            distributed.broadcast(value.data, src=0)


def destroy_process_group() -> None:
    """Destroy the process group, so that no other process waits for this one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the random state and the number of threads of the process afterwards."""
    threads = torch.get_num_threads()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
