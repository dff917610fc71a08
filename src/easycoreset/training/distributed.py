"""Distributed training: one run folder, and updates of the whole batch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.errors import RunError, UsageError
from easycoreset.process_group import all_reduce_sum, broadcast, is_distributed, is_main_process, world_size
from easycoreset.run_folders import RunFolder, open_run_folder


@contextlib.contextmanager
def open_distributed_run_folder(
    path: Path, command: str, options: dict[str, Any], **folder_options: Any
) -> Iterator[RunFolder]:
    """`open_run_folder` for all processes of a run; only the main process opens it and writes.

    Args:
        path: as `open_run_folder` takes it, like all others.
        command: likewise.
        options: likewise.
        folder_options: likewise.

    Raises:
        UsageError: in all processes, if the main process cannot open the folder.
        RunError: likewise.
    """
    if not is_distributed():
        with open_run_folder(path, command, options, **folder_options) as run:
            yield run
        return
    with contextlib.ExitStack() as stack:
        run: RunFolder | UsageError | RunError | None = None
        if is_main_process():
            try:
                run = stack.enter_context(open_run_folder(path, command, options, **folder_options))
            except (UsageError, RunError) as error:
                run = error
        shared = broadcast(run)
        if isinstance(shared, UsageError | RunError):
            raise shared
        yield run if isinstance(run, RunFolder) else RunFolder(shared.path, shared.file, shared.record, is_writer=False)


def batch_share(local_size: int, batch_size: int) -> float:
    """The loss weight of a process with `local_size` samples of a batch; equal weights if each process has them all."""
    return local_size / batch_size if local_size < batch_size else 1 / world_size()


def all_reduce_gradients(model: nn.Module) -> None:
    """Sum the gradients over all processes, in one all-reduce.

    DistributedDataParallel does so during the backward pass, but allows one forward pass per step: adversarial
    objectives have several, some in eval mode.
    """
    if is_distributed():
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        used = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
        all_reduce_sum(used)  # a parameter that no process used gets no gradient and no weight decay
        trained = [p for p, count in zip(trained, used.tolist(), strict=True) if count]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        all_reduce_sum(flat)
        for parameter, local, summed in zip(
            trained, gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            parameter.grad = local.copy_(summed.view(local.shape))


def all_finite(loss: Tensor) -> bool:
    """Whether the loss is finite in all processes."""
    nonfinite = (~torch.isfinite(loss.detach())).long()
    all_reduce_sum(nonfinite)
    return not bool(nonfinite)


def merge_processes(columns: dict[str, np.ndarray], device: torch.device) -> dict[str, np.ndarray]:
    """Combine the parts that the processes measured; NaN where no process has a value."""
    if world_size() == 1:
        return columns
    for name, values in columns.items():
        total = torch.from_numpy(np.nan_to_num(values, nan=0.0)).to(device)
        count = torch.from_numpy(np.isfinite(values).astype(np.int32)).to(device)
        all_reduce_sum(total, count)
        columns[name] = torch.where(count > 0, total / count.clamp_min(1), float("nan")).cpu().numpy()
    return columns
