"""Craft adversarial images for a model and given images."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from easycoreset.attacks import Attack, load_attack
from easycoreset.attacks.ball import check_in_ball
from easycoreset.conversion import parse_number
from easycoreset.errors import UsageError, describe_error, require
from easycoreset.models.in_memory import unwrap
from easycoreset.models.modes import device_of, frozen, full_float32
from easycoreset.options.objects import MEMBER, name_objects

DEFAULT_EPS = 8 / 255


def attack(
    model: nn.Module,
    x: Any,
    y: Any,
    attack: str | Attack | type[Attack] = "pgd",
    *,
    eps: float | str | None = None,
    norm: Literal["linf", "l2"] | None = None,
    seed: int | None = None,
    batch_size: int = 250,
) -> Tensor:
    """Search the eps ball around each image for an image that the model misclassifies.

    The model, its modes and its `.grad` stay unchanged.

    Args:
        model: maps [B,C,H,W] in [0,1] to logits; it is attacked in eval mode, on its device.
        x: [N,C,H,W], floating, in [0,1]; an array or a tensor.
        y: [N] integers, the true classes.
        attack: NAME[:key=value]... as `evaluate` takes it, or an attack.
        eps: radius of the ball, a number or a fraction like "8/255"; default: the attack's, 8/255.
        norm: norm of the ball; default: the attack's, linf.
        seed: seed of random starts; default: the attack's, 0.
        batch_size: number of images attacked at once.

    Returns:
        [N,C,H,W] float32 inside the ball and [0,1], on the device of `x`.

    Raises:
        UsageError: images outside [0, 1] or of another shape, labels that do not fit, a model that does not map the
            images to logits, an unknown attack, or `eps` or `batch_size` out of range.
        RunError: the attack returns an image outside the ball or [0,1].

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> attack(linear, torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0]), "fgsm", eps=0.1).shape
    torch.Size([3, 1, 2, 2])
    """
    images, labels = _as_tensor("x", x), _as_tensor("y", y)
    _check(images, labels)
    require(isinstance(model, nn.Module), "model", "a module", type(model).__name__)
    radius = None if eps is None else parse_number(eps)
    require(radius is None or radius >= 0, "eps", ">= 0", eps)
    require(batch_size >= 1, "batch_size", ">= 1", batch_size)
    spec = name_objects(attack, MEMBER, False)
    loaded = load_attack(spec, norm=norm, eps=radius, seed=seed)[1]
    if radius is None and not hasattr(loaded, "eps"):  # a function, which has no radius of its own
        loaded = load_attack(spec, norm=norm, eps=DEFAULT_EPS, seed=seed)[1]
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        model = unwrap(model).to(device_of(model))  # a copy in float32
    device = device_of(model)
    index = torch.arange(len(images), device=device)
    parts: list[Tensor] = []
    with frozen(model), full_float32():
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            clean, y_true = images[rows].to(device, torch.float32), labels[rows].to(device, torch.int64)
            if not start:
                _check_model(model, clean, labels)
            x_adv = loaded(model, clean, y_true, index[rows])
            check_in_ball(type(loaded).__name__, x_adv, clean, *_ball_of(loaded, radius, norm))
            parts.append(x_adv.to(images.device))
    return torch.cat(parts)


def _ball_of(attack: Any, eps: float | None, norm: str | None) -> tuple[float, str]:
    """The radius and the norm of an attack, as it was loaded."""
    return getattr(attack, "eps", DEFAULT_EPS if eps is None else eps), getattr(attack, "norm", norm or "linf")


def _check_model(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Refuse a model that does not map images to logits of all classes that occur."""
    try:
        with torch.no_grad():
            logits = model(x[:2])
    except Exception as error:  # a user's model may raise anything
        raise UsageError(f"model must run on float32 images {tuple(x.shape[1:])}: {describe_error(error)}") from None
    is_logits = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(x[:2])
    require(is_logits, "model", "one that gives logits [B, classes]", getattr(logits, "shape", type(logits).__name__))
    low, high = int(y.min()), int(y.max())
    require(0 <= low <= high < logits.shape[1], "y", f"classes in 0..{logits.shape[1] - 1}", f"{low}..{high}")


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} must be an array or a tensor: {describe_error(error)}") from None


def _check(x: Tensor, y: Tensor) -> None:
    """Refuse images and labels that cannot be attacked."""
    require(x.ndim == 4 and len(x) > 0, "x", "[N,C,H,W] with N >= 1", tuple(x.shape))
    require(x.is_floating_point(), "x", "floating, in [0, 1] (divide bytes by 255)", x.dtype)
    low, high = float(x.min()), float(x.max())
    require(0 <= low <= high <= 1, "x", "in [0, 1] (without normalisation)", f"[{low:.3g}, {high:.3g}]")
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise UsageError(f"y must be [{len(x)}] integers; got {y.dtype} {tuple(y.shape)}")
