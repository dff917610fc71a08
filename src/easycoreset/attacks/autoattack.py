"""AutoAttack (Croce & Hein 2020) and its Square attack: the reference package's attacks, driven one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, check_ball
from easycoreset.attacks.pgd import PGD
from easycoreset.errors import require
from easycoreset.models.modes import frozen

FEWEST = 4  # classes below which the DLR losses are not defined
TARGETS = 9  # of the targeted attacks, where there are so many other classes
Stage = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """The standard ensemble, parameter-free: APGD-CE, APGD-T, FAB-T and Square, each on what is left (pyautoattack).

    Targeted attacks try min(9, classes - 1) targets. Below 4 classes APGD-T's loss is undefined: PGD by the margin
    loss, with as many steps and 5 restarts, stands in. Random numbers are drawn batch by batch, as in the package.
    """

    version: ClassVar[int] = 1
    draws_by_batch: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True  # its attacks fail without one
    eps: float = 8 / 255
    norm: Norm = "linf"
    iterations: int = 100
    queries: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.iterations >= 1, "iterations", ">= 1", self.iterations)
        require(self.queries >= 1, "queries", ">= 1", self.queries)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images that are too small for Square."""
        check_images(self.norm, shape)

    @property
    def passes(self) -> int:
        """Forward and backward passes of an image that every stage leaves standing, at nine targets, about."""
        return self.iterations * (1 + TARGETS + 3 * TARGETS) + self.queries

    def stages(self, classes: int) -> dict[str, Stage]:
        """The attacks of the ensemble in their order, name -> attack."""
        margin = PGD(eps=self.eps, norm=self.norm, loss="margin", steps=self.iterations, restarts=5, seed=self.seed)
        second = {"apgd-t": self._apgd_targeted} if classes >= FEWEST else {"pgd-margin": margin}
        return {"apgd-ce": self._apgd, **second, "fab-t": self._fab, "square": self._square}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        result = x.detach().clone()
        with frozen(model), torch.no_grad():
            logits = model(result)
        rows = (logits.argmax(1) == y).nonzero().squeeze(1)
        for attack in self.stages(logits.shape[1]).values():
            if not len(rows):
                break
            result[rows] = attack(model, x[rows], y[rows], None if index is None else index[rows])
            with frozen(model), torch.no_grad():
                rows = rows[model(result[rows]).argmax(1) == y[rows]]
        return result

    def _apgd(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = APGDAttack(
            Contiguous(model), n_restarts=1, n_iter=self.iterations, eot_iter=1, rho=0.75, **self._common(x)
        )
        attack.loss = "ce"
        return run(attack, model, x, y)

    def _apgd_targeted(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = APGDAttack_targeted(Contiguous(model), n_restarts=1, n_iter=self.iterations, eot_iter=1, rho=0.75,
                                     n_target_classes=targets(model, x), **self._common(x))  # fmt: skip
        return run(attack, model, x, y)

    def _fab(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = FABAttack_PT(Contiguous(model), n_restarts=1, n_iter=self.iterations, targeted=True,
                              n_target_classes=targets(model, x), **self._common(x))  # fmt: skip
        return run(attack, model, x, y)

    def _square(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        return Square(eps=self.eps, norm=self.norm, queries=self.queries, seed=self.seed)(model, x, y, index)

    def _common(self, x: Tensor) -> dict[str, Any]:
        return {"eps": self.eps, "norm": package_norm(self.norm), "seed": self.seed, "device": x.device,
                "verbose": False}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack (Andriushchenko et al. 2020): a black-box random search, 5,000 queries unless said."""

    version: ClassVar[int] = 1
    draws_by_batch: ClassVar[bool] = True
    eps: float = 8 / 255
    norm: Norm = "linf"
    queries: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.queries >= 1, "queries", ">= 1", self.queries)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images that are too small."""
        check_images(self.norm, shape)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        check_images(self.norm, x.shape[1:])
        attack = SquareAttack(Contiguous(model), p_init=0.8, n_queries=self.queries, eps=self.eps, n_restarts=1,
                              norm=package_norm(self.norm), seed=self.seed, verbose=False, device=x.device,
                              resc_schedule=False)  # fmt: skip
        return run(attack, model, x, y)


def check_images(norm: Norm, shape: tuple[int, ...]) -> None:
    """Refuse [C,H,W] images that are too small for Square by l2."""
    require(norm == "linf" or min(shape[1:]) >= 5, "images for square by l2", "at least 5 pixels a side", tuple(shape))


def package_norm(norm: Norm) -> Literal["Linf", "L2"]:
    """A norm as the package spells it."""
    return "Linf" if norm == "linf" else "L2"


def targets(model: nn.Module, x: Tensor) -> int:
    """Target classes of the targeted attacks."""
    with frozen(model), torch.no_grad():
        return min(TARGETS, model(x[:1]).shape[1] - 1)


def run(attack: Any, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Run one of the package's attacks; torch's own random state and the model stay as they were.

    The package needs images and gradients that are contiguous, which networks in channels-last layout do not give.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    x = x.detach().clone(memory_format=torch.contiguous_format)
    with frozen(model), torch.random.fork_rng(devices), torch.enable_grad():
        return attack.perturb(x, y.clone()).detach().to(x.dtype)


class Contiguous(nn.Module):
    """A model whose input gradients are contiguous whatever its layout."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient.contiguous())
        return self.model(x)
