"""Minimal-norm attacks that follow the boundary: FMN (linf, l2) and DDN (l2)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, attack_loss, direction, lengths, spread
from easycoreset.errors import require
from easycoreset.models.modes import frozen

DUAL = {"linf": 1.0, "l2": 2.0}
CANDIDATES = 10  # classes whose slopes are measured, the likeliest


@dataclass(frozen=True, kw_only=True)
class FMN:
    """The fast minimum-norm attack (Pintor et al. 2021): the radius shrinks while adversarial and grows while not.

    Until a sample's first adversarial point its radius is the first-order distance to the boundary, by the dual norm.
    Departures: the first step heads for the class whose boundary is nearest to first order, the others follow the
    cross-entropy of first-order distances to all classes' boundaries, in units of the nearest (theirs follow the
    margin); steps are measured in radii of the ball, and go along the gradient's sign for linf.
    """

    version: ClassVar[int] = 2
    norm: Norm = "l2"
    steps: int = 100
    step_size: float = 1.0  # the first step, in radii of the ball; the last is a hundredth of it
    gamma: float = 0.05  # the first change of the radius, as a share of it; the last is 0.001

    def __post_init__(self) -> None:
        require(self.norm in DUAL, "norm", "linf or l2", self.norm)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(self.step_size > 0, "step_size", "> 0", self.step_size)
        require(0 < self.gamma < 1, "gamma", "in (0, 1)", self.gamma)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        best = x.clone()
        nearest = torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
        adv = x.clone()
        eps = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        with frozen(model), torch.enable_grad():
            slopes = class_slopes(model, x, y, self.norm)
            for step in range(self.steps + 1):
                adv = adv.detach().requires_grad_()
                signed = signed_distances(model(adv), y, slopes)
                margin = attack_loss(signed, y, "margin")  # above 0 where adversarial
                estimate = eps
                if not bool(torch.isfinite(nearest).all()):
                    (slope,) = torch.autograd.grad(margin.sum(), adv, retain_graph=True)
                    estimate = reach(margin.detach().to(x.dtype), slope, self.norm)
                (gradient,) = torch.autograd.grad(ascended(signed, y, margin, step).sum(), adv)
                adv = adv.detach()
                margin = margin.detach().to(x.dtype)
                size = measure(adv - x, self.norm)
                broken = margin > 0
                closer = broken & (size < nearest)
                best[closer] = adv[closer]
                nearest = torch.where(closer, size, nearest)
                if step == self.steps:
                    break
                share = change(self.gamma, step / self.steps)
                followed = torch.where(broken, torch.minimum(eps * (1 - share), nearest), eps * (1 + share))
                eps = torch.where(torch.isfinite(nearest), followed, (size + estimate) * (1 + share))
                pace = cosine(self.step_size, self.step_size / 100, step / self.steps)
                adv = (adv + spread(pace * eps) * direction(gradient, self.norm)).clamp(0, 1)
                adv = clip(adv, x, eps, self.norm)
        return best


@dataclass(frozen=True, kw_only=True)
class DDN:
    """Decoupled direction and norm (Rony et al. 2019), l2: every point lies on a sphere that shrinks or grows.

    Departures, without which margins are within 5% only: the first radius is the first-order distance to the boundary
    (theirs is 1), and the change of the radius shrinks from `gamma` to 0.001 (theirs stays). Directions are those of
    `FMN`, since the cross-entropy of small logits heads for a mixture of classes.
    """

    version: ClassVar[int] = 2
    steps: int = 100
    gamma: float = 0.05

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(0 < self.gamma < 1, "gamma", "in (0, 1)", self.gamma)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        best = x.clone()
        nearest = torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
        adv = x.clone()
        delta = torch.zeros_like(x)
        eps = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        with frozen(model), torch.enable_grad():
            slopes = class_slopes(model, x, y, "l2")
            for step in range(self.steps + 1):
                adv = adv.detach().requires_grad_()
                signed = signed_distances(model(adv), y, slopes)
                margin = attack_loss(signed, y, "margin")
                if step == 0:
                    (gradient,) = torch.autograd.grad(margin.sum(), adv, retain_graph=True)
                    eps = reach(margin.detach().to(x.dtype), gradient, "l2")
                (gradient,) = torch.autograd.grad(ascended(signed, y, margin, step).sum(), adv)
                adv = adv.detach()
                size = lengths(adv - x)
                broken = margin.detach() > 0
                closer = broken & (size < nearest)
                best[closer] = adv[closer]
                nearest = torch.where(closer, size, nearest)
                if step == self.steps:
                    break
                share = change(self.gamma, step / self.steps)
                eps = eps * torch.where(broken, 1 - share, 1 + share)
                delta = delta + cosine(1.0, 0.01, step / self.steps) * direction(gradient, "l2")
                adv = (x + delta * spread(eps / lengths(delta).clamp_min(1e-12))).clamp(0, 1)
                delta = adv - x
        return best


def class_slopes(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """How fast each class catches up with the true one at `x`, [B,C]: the dual norm of the gradient of z_k - z_y.

    Of the `CANDIDATES` classes with the largest logits; the others, which no step heads for at first, take the mean.
    """
    x = x.detach().requires_grad_()
    logits = model(x)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    gaps = logits - logits.gather(1, y[:, None])
    rest = gaps.detach().scatter(1, y[:, None], -math.inf)
    likely = rest.topk(min(CANDIDATES, logits.shape[1] - 1), dim=1).indices
    found = []
    for place in range(likely.shape[1]):
        (slope,) = torch.autograd.grad(gaps.gather(1, likely[:, place : place + 1]).sum(), x, retain_graph=True)
        found.append(torch.linalg.vector_norm(slope.flatten(1), DUAL[norm], dim=1, dtype=logits.dtype))
    known = torch.stack(found, 1)
    mean = known.mean(1, keepdim=True)
    slopes = mean.expand(-1, logits.shape[1]).scatter(1, likely, torch.where(known > 0, known, mean))
    return torch.where(slopes > 0, slopes, 1)


def signed_distances(logits: Tensor, y: Tensor, slopes: Tensor) -> Tensor:
    """First-order distances to the classes' boundaries, [B,C], negative on the true class's side, whose own are 0."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (logits - logits.gather(1, y[:, None])) / slopes


def ascended(signed: Tensor, y: Tensor, margin: Tensor, step: int) -> Tensor:
    """What a step follows, [B]: the nearest class at first, later the cross-entropy of distances in its units.

    So it heads for the near classes at any scale of the logits.
    """
    if step == 0:
        return margin
    unit = margin.detach().abs()
    return attack_loss(signed / torch.where(unit > 0, unit, 1)[:, None], y, "ce")


def change(gamma: float, progress: float) -> float:
    """The share by which a radius changes: from `gamma` down to 0.001."""
    return gamma ** (1 - progress) * 0.001**progress


def reach(margin: Tensor, gradient: Tensor, norm: Norm) -> Tensor:
    """First-order distance to the boundary, [B]: the margin over the gradient's dual norm."""
    return margin.abs() / torch.linalg.vector_norm(gradient.flatten(1), DUAL[norm], dim=1).clamp_min(1e-12)


def measure(delta: Tensor, norm: Norm) -> Tensor:
    """[B,C,H,W] -> [B], the norms."""
    return delta.flatten(1).abs().amax(1) if norm == "linf" else lengths(delta)


def clip(adv: Tensor, x: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """Bring each sample into its own ball, [B] radii, and into [0,1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(adv, x - spread(eps)), x + spread(eps)).clamp(0, 1)
    delta = adv - x
    return (x + delta * spread((eps / lengths(delta).clamp_min(1e-12)).clamp_max(1))).clamp(0, 1)


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
