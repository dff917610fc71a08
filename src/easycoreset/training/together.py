"""One training run by several processes: one folder, and updates of the whole batch."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.errors import RunError, UsageError
from easycoreset.folders import RunFolder, claim
from easycoreset.processes import add_up, leads, several, tell, world_size


@contextlib.contextmanager
def claim_together(
    path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False, places: Sequence[str] = ()
) -> Iterator[RunFolder]:
    """`claim` a folder for all processes of the run: the first does it and alone writes, the others follow.

    Raises:
        UsageError: in all of them, where the first may not have the folder.
        RunError: likewise.
    """
    if not several():
        with claim(path, command, options, overwrite=overwrite, places=places) as run:
            yield run
        return
    with contextlib.ExitStack() as held:
        found: RunFolder | UsageError | RunError | None = None
        if leads():
            try:
                found = held.enter_context(claim(path, command, options, overwrite=overwrite, places=places))
            except (UsageError, RunError) as error:
                found = error
        told = tell(found)
        if isinstance(told, UsageError | RunError):
            raise told
        yield found if isinstance(found, RunFolder) else RunFolder(told.path, told.file, told.record, writes=False)


def share_of(own: int, whole: int) -> float:
    """The weight of a process that has `own` samples of a batch of `whole`: where all have all of it, equal ones."""
    return own / whole if own < whole else 1 / world_size()


def add_up_gradients(model: nn.Module) -> None:
    """Add up the gradients of all processes, in one message.

    DistributedDataParallel does so while it goes backward, but takes one forward pass a step: adversarial objectives
    have several, in eval mode too.
    """
    if several():
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        has = torch.tensor([p.grad is not None for p in wanted], dtype=torch.int32, device=wanted[0].device)
        add_up(has)  # a parameter that no process used has no gradient, and no weight decay
        wanted = [p for p, some in zip(wanted, has.tolist(), strict=True) if some]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        add_up(flat)
        for parameter, own, summed in zip(wanted, gradients, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = own.copy_(summed.view(own.shape))


def all_finite(loss: Tensor) -> bool:
    """Whether the loss is finite in every process."""
    bad = (~torch.isfinite(loss.detach())).long()
    add_up(bad)
    return not bool(bad)
