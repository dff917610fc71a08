"""Shared by the attacks: projection to the eps ball, steepest steps, random points of the ball, and losses."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.data.keyed_random import keyed_normal, keyed_uniform
from easycoreset.errors import RunError, quote, require

Norm = Literal["linf", "l2"]
TOLERANCE = 2e-6  # relative to the larger of 1 and the ball's radius, for float32's rounding
TINY = 1e-12  # nothing is divided by a length below it


def check_ball(eps: float, norm: str, seed: int) -> None:
    """Validate the options that every attack has."""
    require(norm in ("linf", "l2"), "norm", "linf or l2", norm)
    require(eps >= 0 and (norm == "l2" or eps <= 1), "eps", "in [0, 1] for linf, >= 0 for l2", eps)
    require(seed >= 0, "seed", ">= 0", seed)


def per_sample_view(values: Tensor) -> Tensor:
    """View per-sample values [B] as [B,1,1,1], which broadcasts over images."""
    return values.view(-1, 1, 1, 1)


def l2_norms(x: Tensor) -> Tensor:
    """[B,C,H,W] -> [B], the L2 norms, summed in float64: float32 loses 1e-6 over a large image."""
    dtype = x.dtype if x.device.type == "mps" else torch.float64
    return torch.linalg.vector_norm(x, dim=(1, 2, 3), dtype=dtype).to(x.dtype)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: Norm) -> Tensor:
    """The nearest point of the eps ball around `x`, clipped to [0,1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(0, 1)
    delta = x_adv - x
    scale = (eps / l2_norms(delta).clamp_min(1e-12)).clamp_max(1)
    return (x + delta * per_sample_view(scale)).clamp(0, 1)


def steepest_step(gradient: Tensor, norm: Norm) -> Tensor:
    """The steepest ascent step of length 1 in a norm, [B,C,H,W]."""
    if norm == "linf":
        return gradient.sign()
    length = l2_norms(gradient)
    is_tiny = per_sample_view(length < TINY)  # tiny gradients of a confident model still have a direction
    gradient = torch.where(is_tiny, gradient / per_sample_view(max_abs(gradient)), gradient)
    length = l2_norms(gradient)
    return gradient / per_sample_view(length.clamp_min(TINY))


def gradient_of(total: Tensor, x: Tensor) -> Tensor:
    """The gradient of a scalar with respect to `x`; 0 if the model passes no gradient at all."""
    return torch.autograd.grad(total, x)[0] if total.requires_grad else torch.zeros_like(x)


def max_abs(x: Tensor) -> Tensor:
    """[B,C,H,W] -> [B], the largest absolute value, 1 where all are 0."""
    maximum = x.abs().flatten(1).amax(1)
    return torch.where(maximum > 0, maximum, 1)


def random_point(x: Tensor, index: Tensor, eps: float, norm: Norm, *keys: int | str) -> Tensor:
    """Draw a uniform point of the ball around each sample, keyed by the sample's index; clipped to [0,1]."""
    if norm == "linf":
        delta = keyed_uniform(index, x.shape[1:], *keys).to(x.dtype) * 2 - 1
        return project(x + eps * delta, x, eps, norm)
    delta = steepest_step(keyed_normal(index, x.shape[1:], *keys).to(x.dtype), norm)
    radius = keyed_uniform(index, (1, 1, 1), *keys, "length").to(x.dtype) ** (1 / x[0].numel())
    return project(x + eps * delta * radius, x, eps, norm)


def attack_loss(logits: Tensor, y: Tensor, loss: str, target: Tensor | None = None) -> Tensor:
    """The loss to maximise, [B]: cross-entropy, the margin max_{k != y} z_k - z_y, or z_t - z_y of a target.

    A step uses only the direction of the gradient. The margin therefore works at any scale of the logits (as the DLR
    loss of Croce & Hein 2020 does), even where the gradient of the cross-entropy vanishes.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if loss == "ce":
        return F.cross_entropy(logits, y, reduction="none")
    true_logit = logits.gather(1, y[:, None]).squeeze(1)
    if target is not None:
        return logits.gather(1, target[:, None]).squeeze(1) - true_logit
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - true_logit


def check_in_ball(name: str, x_adv: Tensor, x: Tensor, eps: float, norm: str) -> None:
    """Refuse images outside the ball or [0,1].

    Raises:
        RunError: an image is outside.
    """
    delta = (x_adv - x).double()
    distance = l2_norms(delta).max() if norm == "l2" else delta.abs().max()
    if not (float(distance) <= eps + TOLERANCE * max(1.0, eps) and 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1):
        raise RunError(
            f"attack {quote(name)} left the {norm} ball of {eps:.4g} or [0, 1]: it reached {float(distance):.9g}"
        )
