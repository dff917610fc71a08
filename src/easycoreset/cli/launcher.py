"""The command line under torchrun: only the main process prints, and all report the loss of a process."""

import os
import sys
import warnings
from collections.abc import Sequence

from easycoreset.errors import UsageError

PROCESS_LOST = (
    "another process of this run has ended; the same command, with any number of processes, resumes from the last "
    "checkpoint"
)
DISTRIBUTED_COMMANDS = ("score", "train")
LOSS_WORDS = ("connection", "peer", "gloo", "nccl", "socket", "timed out")  # in torch.distributed's errors after a loss


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def refuse_undistributed(tokens: Sequence[str]) -> None:
    """Refuse commands that do not support several processes.

    Raises:
        UsageError: one of these was launched as several processes.
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    if is_launched() and command not in DISTRIBUTED_COMMANDS:
        raise UsageError(
            f"{command or 'easycoreset'} cannot run under torchrun: only {' and '.join(DISTRIBUTED_COMMANDS)} can"
        )


def is_follower() -> bool:
    """Whether this is one of several processes, but not the main one."""
    return is_launched() and int(os.environ.get("RANK", "0")) > 0


def silence_follower(tokens: Sequence[str]) -> list[str]:
    """Silence a follower, except for errors while it works; returns its command line."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    warnings.showwarning = lambda *args, **kwargs: None
    return [token for token in tokens if token != "--quiet"] + ["--quiet"]


def is_process_loss(error: Exception) -> bool:
    """Whether torch.distributed raised this error because another process is gone."""
    return is_launched() and isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOSS_WORDS)


def leave_process_group() -> None:
    """Leave the process group, if there is one."""
    if is_launched() and "torch" in sys.modules:
        from easycoreset.process_group import destroy_process_group

        destroy_process_group()
