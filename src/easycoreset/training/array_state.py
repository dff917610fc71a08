"""NumPy arrays as tensors in the state of a checkpoint, which is read with `weights_only=True`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def with_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with a tensor in place of each array."""
    return {name: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v for name, v in state.items()}


def with_arrays(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with an array in place of each tensor."""
    return {name: v.numpy().copy() if isinstance(v, Tensor) else v for name, v in state.items()}
