"""Minimal-norm attacks that follow the boundary: FMN (linf, l2) and DDN (l2)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from easycoreset.annealing import anneal
from easycoreset.attacks.ball import Norm, attack_loss, l2_norms, per_sample_view, steepest_step
from easycoreset.attacks.open_rows import DelayedCount
from easycoreset.errors import require
from easycoreset.models.modes import frozen

DUAL_ORDER = {"linf": 1.0, "l2": 2.0}
CANDIDATES = 10  # likeliest classes, whose gradients `class_slopes` computes


@dataclass(frozen=True, kw_only=True)
class FMN:
    """The fast minimum-norm attack (Pintor et al. 2021): the radius shrinks while adversarial, else grows.

    Before the first adversarial point of a sample is found, its radius is the norm of the perturbation so far plus the
    first-order distance from there to the boundary (the margin over the gradient's dual norm). Differences from the
    paper: the first step goes towards the class whose boundary is nearest to first order, and later steps ascend the
    cross-entropy of the first-order distances to all boundaries, each divided by the nearest one (the paper's steps
    ascend the margin of the logits); step sizes are in radii of the ball; linf steps follow the gradient's sign.
    """

    version: ClassVar[int] = 2  # of the attack's behaviour: outcomes of an older version are computed again
    norm: Norm = "l2"
    steps: int = 100
    step_size: float = 1.0  # of the first step, in radii of the ball; it falls to a hundredth
    gamma: float = 0.05  # first relative change of the radius; it falls to 0.001

    def __post_init__(self) -> None:
        require(self.norm in DUAL_ORDER, "norm", "linf or l2", self.norm)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        require(self.step_size > 0, "step_size", "> 0", self.step_size)
        require(0 < self.gamma < 1, "gamma", "in (0, 1)", self.gamma)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        best = x.clone()
        best_norm = torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
        adv = x.clone()
        eps = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        with frozen(model), torch.enable_grad():
            slopes = class_slopes(model, x, y, self.norm)
            unbroken = DelayedCount()
            for step in range(self.steps + 1):
                adv = adv.detach().requires_grad_()
                class_distances = signed_distances(model(adv), y, slopes)
                margin = attack_loss(
                    class_distances, y, "margin"
                )  # of distances, not of logits; above 0 where adversarial
                boundary_estimate = eps  # a placeholder: unused once every sample has an adversarial point
                if unbroken.upper_bound(best_norm.isinf()):
                    (margin_gradient,) = torch.autograd.grad(margin.sum(), adv, retain_graph=True)
                    boundary_estimate = boundary_distance(margin.detach().to(x.dtype), margin_gradient, self.norm)
                (gradient,) = torch.autograd.grad(ascent_loss(class_distances, y, margin, step).sum(), adv)
                adv = adv.detach()
                margin = margin.detach().to(x.dtype)
                perturbation_norm = perturbation_norms(adv - x, self.norm)
                broken = margin > 0
                closer = broken & (perturbation_norm < best_norm)
                best = torch.where(per_sample_view(closer), adv, best)
                best_norm = torch.where(closer, perturbation_norm, best_norm)
                if step == self.steps:
                    break
                change = relative_radius_change(self.gamma, step / self.steps)
                adapted = torch.where(broken, torch.minimum(eps * (1 - change), best_norm), eps * (1 + change))
                eps = torch.where(
                    torch.isfinite(best_norm), adapted, (perturbation_norm + boundary_estimate) * (1 + change)
                )
                step_size = anneal(self.step_size, self.step_size / 100, step / self.steps)
                adv = (adv + per_sample_view(step_size * eps) * steepest_step(gradient, self.norm)).clamp(0, 1)
                adv = project_per_sample(adv, x, eps, self.norm)
        return best


@dataclass(frozen=True, kw_only=True)
class DDN:
    """Decoupled direction and norm (Rony et al. 2019), l2: every point lies on a sphere that shrinks or grows.

    Differences from the paper, without which the norms found are up to 5% too large: the first radius is the
    first-order distance to the boundary (in the paper: 1), and the relative change of the radius falls from `gamma` to
    0.001 (in the paper: constant). Steps ascend the loss of `FMN`: where logits are small, the softmax is nearly
    uniform, and the gradient of their cross-entropy mixes all classes.
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
        best_norm = torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
        adv = x.clone()
        delta = torch.zeros_like(x)
        eps = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        with frozen(model), torch.enable_grad():
            slopes = class_slopes(model, x, y, "l2")
            for step in range(self.steps + 1):
                adv = adv.detach().requires_grad_()
                class_distances = signed_distances(model(adv), y, slopes)
                margin = attack_loss(class_distances, y, "margin")
                if step == 0:
                    (gradient,) = torch.autograd.grad(margin.sum(), adv, retain_graph=True)
                    eps = boundary_distance(margin.detach().to(x.dtype), gradient, "l2")
                (gradient,) = torch.autograd.grad(ascent_loss(class_distances, y, margin, step).sum(), adv)
                adv = adv.detach()
                perturbation_norm = l2_norms(adv - x)
                broken = margin.detach() > 0
                closer = broken & (perturbation_norm < best_norm)
                best = torch.where(per_sample_view(closer), adv, best)
                best_norm = torch.where(closer, perturbation_norm, best_norm)
                if step == self.steps:
                    break
                change = relative_radius_change(self.gamma, step / self.steps)
                eps = eps * torch.where(broken, 1 - change, 1 + change)
                delta = delta + anneal(1.0, 0.01, step / self.steps) * steepest_step(gradient, "l2")
                adv = (x + delta * per_sample_view(eps / l2_norms(delta).clamp_min(1e-12))).clamp(0, 1)
                delta = adv - x
        return best


def class_slopes(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """The dual norm of the gradient of z_k - z_y at `x` for each class k, [B,C]: how fast k catches up with y.

    It is computed for the `CANDIDATES` classes with the largest logits; all other classes get the mean.
    """
    x = x.detach().requires_grad_()
    logits = model(x)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    gaps = logits - logits.gather(1, y[:, None])
    others = gaps.detach().scatter(1, y[:, None], -math.inf)
    likely = others.topk(min(CANDIDATES, logits.shape[1] - 1), dim=1).indices
    norms = []
    for rank in range(likely.shape[1]):
        (gradient,) = torch.autograd.grad(gaps.gather(1, likely[:, rank : rank + 1]).sum(), x, retain_graph=True)
        norms.append(torch.linalg.vector_norm(gradient.flatten(1), DUAL_ORDER[norm], dim=1, dtype=logits.dtype))
    measured = torch.stack(norms, 1)
    mean = measured.mean(1, keepdim=True)
    slopes = mean.expand(-1, logits.shape[1]).scatter(1, likely, torch.where(measured > 0, measured, mean))
    return torch.where(slopes > 0, slopes, 1)


def signed_distances(logits: Tensor, y: Tensor, slopes: Tensor) -> Tensor:
    """First-order distances to the classes' boundaries, [B,C]: negative on the true class's side, 0 for that class."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (logits - logits.gather(1, y[:, None])) / slopes


def ascent_loss(distances: Tensor, y: Tensor, margin: Tensor, step: int) -> Tensor:
    """The loss that a step ascends, [B]: the margin at first, later the cross-entropy of distances / |margin|.

    So a step moves towards the near classes at any scale of the logits.
    """
    if step == 0:
        return margin
    unit = margin.detach().abs()
    return attack_loss(distances / torch.where(unit > 0, unit, 1)[:, None], y, "ce")


def relative_radius_change(gamma: float, progress: float) -> float:
    """Relative change of the radius: it falls from `gamma` to 0.001."""
    return gamma ** (1 - progress) * 0.001**progress


def boundary_distance(margin: Tensor, gradient: Tensor, norm: Norm) -> Tensor:
    """First-order distance to the boundary, [B]: the margin over the gradient's dual norm."""
    return margin.abs() / torch.linalg.vector_norm(gradient.flatten(1), DUAL_ORDER[norm], dim=1).clamp_min(1e-12)


def perturbation_norms(delta: Tensor, norm: Norm) -> Tensor:
    """[B,C,H,W] -> [B], the norms of perturbations."""
    return delta.flatten(1).abs().amax(1) if norm == "linf" else l2_norms(delta)


def project_per_sample(adv: Tensor, x: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """Project each sample into the ball of its radius, `eps` [B], and into [0,1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(adv, x - per_sample_view(eps)), x + per_sample_view(eps)).clamp(0, 1)
    delta = adv - x
    return (x + delta * per_sample_view((eps / l2_norms(delta).clamp_min(1e-12)).clamp_max(1))).clamp(0, 1)
