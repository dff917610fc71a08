"""Checks of a model on a data set's first batch, before work starts."""

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.data import Source
from easycoreset.errors import UsageError, describe_error
from easycoreset.models.modes import check_input_gradient, frozen


def check_model(model: nn.Module, source: Source, device: torch.device) -> None:
    """Raise unless the model maps a first batch to finite logits [B, classes].

    Raises:
        UsageError: the model does not run, or its output is of another shape or not finite.
    """
    batch = next(source.splits["train"].batches(np.arange(min(2, len(source.splits["train"]))), 2, device))
    classes = len(source.class_names)
    try:
        with frozen(model), torch.no_grad():
            logits = model(batch.x)
    except UsageError:
        raise
    except Exception as error:  # a user's model may raise any exception
        shape = tuple(batch.x.shape[1:])
        reason = f"its first batch fails: {describe_error(error)}"
        raise UsageError(f"model must run on float32 images of shape {shape}; {reason}") from None
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (len(batch.x), classes):
        raise UsageError(f"model must map {len(batch.x)} images to logits [{len(batch.x)}, {classes}]; got {shape}")
    if not logits.is_floating_point():
        raise UsageError(f"model must give floating logits; got {logits.dtype}")
    if not torch.isfinite(logits).all():
        raise UsageError("model must give finite logits; its first batch is not finite")


def require_gradient(model: nn.Module, source: Source, device: torch.device, name: str) -> None:
    """Raise if no gradient flows from the logits to the input: every hardness would be 0.

    Raises:
        UsageError: there is no gradient.
    """
    rows = np.arange(min(8, len(source.splits["train"])))
    batch = next(source.splits["train"].batches(rows, len(rows), device))
    check_input_gradient(model, batch.x, name)
