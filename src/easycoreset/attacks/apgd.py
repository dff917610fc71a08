"""Auto-PGD (Croce & Hein 2020): the first two attacks of AutoAttack, from the reference package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, check_ball
from easycoreset.attacks.broken_rows import SkipBrokenRows
from easycoreset.attacks.pgd import PGD
from easycoreset.errors import require
from easycoreset.models.modes import frozen

MIN_DLR_CLASSES = 4  # the DLR losses are not defined below it
MAX_TARGETS = 9  # target classes of the targeted attacks, at most
Stage = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, kw_only=True)
class APGD:
    """APGD with cross-entropy, then APGD-T with the targeted DLR loss on the unbroken samples (pyautoattack).

    Targeted attacks try min(9, classes - 1) targets. Below 4 classes the loss of APGD-T is undefined, so PGD with the
    margin loss, the same number of steps and 5 restarts replaces it. Random numbers are drawn batch by batch, as in the
    package.
    """

    version: ClassVar[int] = 1
    draws_by_batch: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True  # it fails on a model without input gradients
    strength: ClassVar[tuple[int, ...]] = (3,)
    eps: float = 8 / 255
    norm: Norm = "linf"
    iterations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.iterations >= 1, "iterations", ">= 1", self.iterations)

    @property
    def reference(self) -> bool:
        """Whether it runs with AutoAttack's settings."""
        return self.iterations == APGD.iterations

    @property
    def passes(self) -> int:
        """Approximate forward and backward passes for an image that survives both stages, at nine targets."""
        return self.iterations * (1 + MAX_TARGETS)

    def stages(self, classes: int) -> dict[str, Stage]:
        """The two attacks in order, name -> attack."""
        pgd_margin = PGD(eps=self.eps, norm=self.norm, loss="margin", steps=self.iterations, restarts=5, seed=self.seed)
        targeted = {"apgd-t": self._targeted} if classes >= MIN_DLR_CLASSES else {"pgd-margin": pgd_margin}
        return {"apgd-ce": self._cross_entropy, **targeted}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        return run_stages(self.stages, model, x, y, index)

    def _cross_entropy(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = _CrossEntropyAPGD(ContiguousGradient(model), eot_iter=1, rho=0.75, **self._common_options(x))
        attack.loss = "ce"
        return run_package(attack, model, x, y)

    def _targeted(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = _TargetedAPGD(
            ContiguousGradient(model),
            eot_iter=1,
            rho=0.75,
            n_target_classes=count_targets(model, x),
            **self._common_options(x),
        )
        return run_package(attack, model, x, y)

    def _common_options(self, x: Tensor) -> dict[str, Any]:
        return {
            "eps": self.eps,
            "norm": package_norm(self.norm),
            "n_restarts": 1,
            "n_iter": self.iterations,
            "seed": self.seed,
            "device": x.device,
            "verbose": False,
        }


class _CrossEntropyAPGD(SkipBrokenRows, APGDAttack):
    pass


class _TargetedAPGD(SkipBrokenRows, APGDAttack_targeted):
    pass


def run_stages(
    stages: Callable[[int], dict[str, Stage]], model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None
) -> Tensor:
    """Run the attacks of an ensemble on one batch, each on the samples that no earlier one broke."""
    result = x.detach().clone()
    with frozen(model), torch.no_grad():
        logits = model(result)
    rows = (logits.argmax(1) == y).nonzero().squeeze(1)
    for attack in stages(logits.shape[1]).values():
        if not len(rows):
            break
        result[rows] = attack(model, x[rows], y[rows], None if index is None else index[rows])
        with frozen(model), torch.no_grad():
            rows = rows[model(result[rows]).argmax(1) == y[rows]]
    return result


def package_norm(norm: Norm) -> Literal["Linf", "L2"]:
    """The package's name of a norm."""
    return "Linf" if norm == "linf" else "L2"


def count_targets(model: nn.Module, x: Tensor) -> int:
    """Number of target classes of the targeted attacks."""
    with frozen(model), torch.no_grad():
        return min(MAX_TARGETS, model(x[:1]).shape[1] - 1)


def run_package(attack: Any, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Run one of the package's attacks without changing torch's random state or the model.

    The package needs contiguous images and gradients, which a channels-last network does not produce.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    x = x.detach().clone(memory_format=torch.contiguous_format)
    with frozen(model), torch.random.fork_rng(devices), torch.enable_grad():
        return attack.perturb(x, y.clone()).detach().to(x.dtype)


class ContiguousGradient(nn.Module):
    """Wraps a model so that its input gradients are contiguous, whatever its memory layout."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient.contiguous())
        return self.model(x)
