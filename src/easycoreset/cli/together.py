"""The command line under torchrun: of several processes the first speaks, and all say so when one is gone."""

import os
import sys
import warnings
from collections.abc import Sequence

from easycoreset.errors import UsageError

GONE = (
    "another process of this run has ended; the same command, with any number of processes, goes on from the last "
    "checkpoint"
)
TOGETHER = ("score", "train")
SIGNS = ("connection", "peer", "gloo", "nccl", "socket", "timed out")  # in what torch.distributed raises then


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def refuse_alone(tokens: Sequence[str]) -> None:
    """Refuse the commands that are not made for several processes.

    Raises:
        UsageError: one of them was launched as several.
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    if is_launched() and command not in TOGETHER:
        raise UsageError(f"{command or 'easycoreset'} is no command for torchrun: {' and '.join(TOGETHER)} are")


def is_follower() -> bool:
    """Whether it is one of them, but not the first."""
    return is_launched() and int(os.environ.get("RANK", "0")) > 0


def hush(tokens: Sequence[str]) -> list[str]:
    """Keep a follower silent but for errors during the work; returns its command line."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    warnings.showwarning = lambda *told, **more: None
    return [token for token in tokens if token != "--quiet"] + ["--quiet"]


def is_loss(error: Exception) -> bool:
    """Whether it is what torch.distributed raises where another process is gone."""
    return is_launched() and isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def part() -> None:
    """Leave the other processes, where there are any."""
    if is_launched() and "torch" in sys.modules:
        from easycoreset.process_group import destroy_process_group

        destroy_process_group()
