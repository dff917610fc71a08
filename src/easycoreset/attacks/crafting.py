"""Adversarial images of a model and images in hand."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from easycoreset.attacks import Attack, load_attack
from easycoreset.errors import UsageError, require
from easycoreset.models.modes import device_of, frozen, full_float32
from easycoreset.options.objects import MEMBER, name_objects


def attack(
    model: nn.Module,
    x: Any,
    y: Any,
    attack: str | Attack | type[Attack] = "pgd",
    *,
    eps: float = 8 / 255,
    norm: Literal["linf", "l2"] = "linf",
    seed: int = 0,
    batch_size: int = 250,
) -> Tensor:
    """Attack images with a model; the model, its modes and its `.grad` stay as they are.

    Args:
        model: maps [B,C,H,W] in [0,1] to logits; it is attacked in eval mode, on its device.
        x: [N,C,H,W], floating, in [0,1]; an array or a tensor.
        y: [N] integers, the true classes.
        attack: NAME[:key=value]... as `evaluate` takes it, or an attack.
        eps: radius of the ball.
        norm: norm of the ball.
        seed: seed of random starts.
        batch_size: images attacked at once.

    Returns:
        [N,C,H,W] float32 inside the ball and [0,1], on the device of `x`.

    Raises:
        UsageError: images outside [0, 1] or of another shape, labels that do not fit, or an unknown attack.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> attack(linear, torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0]), "fgsm", eps=0.1).shape
    torch.Size([3, 1, 2, 2])
    """
    images, labels = torch.as_tensor(x), torch.as_tensor(y)
    _check(images, labels)
    require(eps >= 0, "eps", ">= 0", eps)
    require(batch_size >= 1, "batch_size", ">= 1", batch_size)
    loaded = load_attack(name_objects(attack, MEMBER, False), norm=norm, eps=eps, seed=seed)[1]
    device = device_of(model)
    index = torch.arange(len(images), device=device)
    parts: list[Tensor] = []
    with frozen(model), full_float32():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = images[rows].to(device, torch.float32), labels[rows].to(device, torch.int64)
            parts.append(loaded(model, *batch, index[rows]).to(images.device))
    return torch.cat(parts)


def _check(x: Tensor, y: Tensor) -> None:
    """Refuse images and labels that cannot be attacked."""
    require(x.ndim == 4 and len(x) > 0, "x", "[N,C,H,W] with N >= 1", tuple(x.shape))
    require(x.is_floating_point(), "x", "floating, in [0, 1] (divide bytes by 255)", x.dtype)
    low, high = float(x.min()), float(x.max())
    require(0 <= low <= high <= 1, "x", "in [0, 1] (without normalisation)", f"[{low:.3g}, {high:.3g}]")
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise UsageError(f"y must be [{len(x)}] integers; got {y.dtype} {tuple(y.shape)}")
