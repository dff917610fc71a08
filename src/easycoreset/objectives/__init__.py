"""Objectives: the losses that a training step minimises. Each objective has one line in `OBJECTIVES`."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from easycoreset.errors import UsageError, require
from easycoreset.members import load_member, spell_member, split_spec

OBJECTIVES = {
    "standard": "easycoreset.objectives.standard:Standard",
    "trades": "easycoreset.objectives.trades:TRADES",
    "pgd-at": "easycoreset.objectives.adversarial:PGDTraining",
    "mart": "easycoreset.objectives.mart:MART",
    "fgsm-rs": "easycoreset.objectives.adversarial:FGSMTraining",
    "noise": "easycoreset.objectives.noise:Noise",
}


class Objective(Protocol):
    """The loss of each sample of a training batch; a step minimises their mean, each times its sample's weight.

    If its inner attack is a single step, it declares `single_step`; training then checks for catastrophic overfitting.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the losses, [B].

        Args:
            model: in train mode, maps [B,C,H,W] in [0,1] to logits.
            x: [B,C,H,W].
            y: [B] int64.
            generator: for random draws, on the device of `x`.
        """
        ...


@runtime_checkable
class LogitObjective(Protocol):
    """An objective whose losses are a function of logits: of the clean samples, and of perturbed ones if it has any."""

    def logit_losses(self, clean: Tensor, adversarial: Tensor, y: Tensor) -> Tensor:
        """The losses [B] from logits [B, classes]; `adversarial` equals `clean` if nothing is perturbed."""
        ...


@runtime_checkable
class Adversarial(Protocol):
    """An objective that perturbs its samples."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Craft the perturbed samples [B,C,H,W] in eval mode."""
        ...


def load_objective(spec: str, eps: float | None = None) -> tuple[str, Objective]:
    """Load the objective that `spec` names; return its canonical spelling and the objective."""
    objective = load_member("objective", spec, OBJECTIVES, eps=eps)
    return spell_member(split_spec(spec)[0], objective), objective


def is_standard(name: str) -> bool:
    """Whether `name` spells standard training, with any options."""
    return split_spec(name)[0] == "standard"


def check_ascent(eps: float, steps: int, step_size: float | None) -> None:
    """Validate the options of an inner maximisation."""
    require(0 <= eps <= 1, "eps", "in [0, 1]", eps)
    require(steps >= 1, "steps", ">= 1", steps)
    require(step_size is None or step_size > 0, "step_size", "> 0", step_size)


def check_smoothing(label_smoothing: float) -> None:
    """Validate label smoothing."""
    require(0 <= label_smoothing < 1, "label_smoothing", "in [0, 1)", label_smoothing)


def check_losses(losses: object, size: int) -> None:
    """Raise unless an objective returned one loss per sample.

    Raises:
        UsageError: it returned something else.
    """
    if not isinstance(losses, Tensor) or losses.shape != (size,):
        received = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise UsageError(f"an objective must return the loss of each sample, [{size}]; got {received}")


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of [B] losses, each times its sample's weight (the weights' mean over the coreset is 1)."""
    return losses.mean() if weight is None else (losses * weight).mean()
