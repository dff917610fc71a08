"""AutoAttack (Croce & Hein 2020) and its Square attack: the reference package's attacks, run one at a time."""

from dataclasses import dataclass
from typing import ClassVar

from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from easycoreset.attacks.apgd import (
    APGD,
    MAX_TARGETS,
    ContiguousGradient,
    Stage,
    count_targets,
    package_norm,
    run_package,
    run_stages,
)
from easycoreset.attacks.ball import Norm, check_ball
from easycoreset.errors import require


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """The standard ensemble of APGD-CE, APGD-T, FAB-T and Square, each on the unbroken samples (pyautoattack).

    Targeted attacks try min(9, classes - 1) targets. Below 4 classes the loss of APGD-T is undefined, so PGD with the
    margin loss, the same number of steps and 5 restarts replaces it. Random numbers are drawn batch by batch, as in the
    package.
    """

    version: ClassVar[int] = 1
    draws_by_batch: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True  # its attacks fail on a model without input gradients
    strength: ClassVar[tuple[int, ...]] = (4,)
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
        """Refuse images that are too small for Square with l2."""
        check_images(self.norm, shape)

    @property
    def reference(self) -> bool:
        """Whether it runs with the package's standard settings."""
        return (self.iterations, self.queries) == (AutoAttack.iterations, AutoAttack.queries)

    @property
    def passes(self) -> int:
        """Approximate forward and backward passes for an image that survives every stage, at nine targets."""
        return self.iterations * (1 + MAX_TARGETS + 3 * MAX_TARGETS) + self.queries

    def stages(self, classes: int) -> dict[str, Stage]:
        """The attacks of the ensemble in order, name -> attack."""
        apgd = APGD(eps=self.eps, norm=self.norm, iterations=self.iterations, seed=self.seed)
        square = Square(eps=self.eps, norm=self.norm, queries=self.queries, seed=self.seed)
        return {**apgd.stages(classes), "fab-t": self._fab, "square": square}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        return run_stages(self.stages, model, x, y, index)

    def _fab(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        attack = FABAttack_PT(
            ContiguousGradient(model),
            n_restarts=1,
            n_iter=self.iterations,
            targeted=True,
            n_target_classes=count_targets(model, x),
            eps=self.eps,
            norm=package_norm(self.norm),
            seed=self.seed,
            device=x.device,
            verbose=False,
        )
        return run_package(attack, model, x, y)


@dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack (Andriushchenko et al. 2020): a black-box random search, by default of 5,000 queries."""

    version: ClassVar[int] = 1
    draws_by_batch: ClassVar[bool] = True
    strength: ClassVar[tuple[int, ...]] = (0, 1)
    eps: float = 8 / 255
    norm: Norm = "linf"
    queries: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.queries >= 1, "queries", ">= 1", self.queries)

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images that are too small for l2."""
        check_images(self.norm, shape)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        check_images(self.norm, x.shape[1:])
        attack = SquareAttack(
            ContiguousGradient(model),
            p_init=0.8,
            n_queries=self.queries,
            eps=self.eps,
            n_restarts=1,
            norm=package_norm(self.norm),
            seed=self.seed,
            verbose=False,
            device=x.device,
            resc_schedule=False,
        )
        return run_package(attack, model, x, y)


def check_images(norm: Norm, shape: tuple[int, ...]) -> None:
    """Refuse [C,H,W] images that are too small for Square with l2."""
    require(norm == "linf" or min(shape[1:]) >= 5, "images for square by l2", "at least 5 pixels a side", tuple(shape))
