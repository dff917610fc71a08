"""Checkpoints, from which a run resumes bit for bit."""

import pickle
from pathlib import Path
from typing import Any

import torch

from easycoreset.errors import UsageError
from easycoreset.files import write_atomic

CHECKPOINT_FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint to a run's folder."""
    write_atomic(folder / CHECKPOINT_FILE, lambda path: torch.save(state, path))


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the checkpoint of a run's folder (tensors and plain values only); None without one.

    Raises:
        UsageError: the file is corrupt.
    """
    file = folder / CHECKPOINT_FILE
    if not file.exists():
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not {"model", "optimizer", "epoch", "step", "history"} <= set(state):
            raise ValueError("not a checkpoint")
    except Exception as error:  # a corrupt file raises almost any exception
        reason = "not written by easycoreset" if isinstance(error, ValueError | pickle.UnpicklingError) else "truncated"
        raise UsageError(f"{file} is corrupt ({reason}); --overwrite begins anew") from None
    return state
