"""Images made on another model: a black-box attack."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, attack_loss, check_ball, gradient_of, project, random_point, steepest_step
from easycoreset.errors import UsageError, require
from easycoreset.models import user_factory
from easycoreset.models.card import read_card
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.paths import sha256_of_file


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """PGD on the model in the folder `from`; its last iterate is given to the attacked model (Papernot et al. 2016).

    The attacked model is not queried, neither for gradients nor for predictions. All steps are taken, even if the other
    model already misclassifies the image. Random starts are keyed by (seed, index).
    """

    version: ClassVar[int] = 1
    strength: ClassVar[tuple[int, ...]] = (0, 2)
    from_: Path | None = None
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 20
    seed: int = 0
    factory: str | None = field(default=None, repr=False)  # of a user's model, as `load_model` takes it

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.steps >= 1, "steps", ">= 1", self.steps)
        if self.from_ is not None and not (self.from_ / "model.json").is_file():
            raise UsageError(f"attack transfer: from must be the folder of a trained model; got {str(self.from_)!r}")

    @property
    def folder(self) -> Path:
        """The folder of the model on which the images are made.

        Raises:
            UsageError: it was not given.
        """
        if self.from_ is None:
            raise UsageError("attack transfer needs another model: give transfer:from=DIR, or surrogate=DIR")
        return self.from_

    @cached_property
    def surrogate(self) -> nn.Module:
        """The model on which the images are made."""
        is_users = user_factory(read_card(self.folder).model) is not None
        return load_model(self.folder, self.factory if is_users else None)

    @property
    def digest(self) -> str:
        """The SHA-256 of the other model's weights."""
        return sha256_of_file(self.folder / "model.safetensors")

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images that the other model does not take.

        Raises:
            UsageError: the other model takes images of another shape.
        """
        taken = read_card(self.folder).shape
        require(taken == shape, "attack", f"transfer from a model that takes images of shape {shape}", taken)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        x = x.detach()
        index = torch.arange(len(x), device=x.device) if index is None else index
        surrogate = self.surrogate.to(x.device)
        classes = len(read_card(self.folder).class_names)
        require(int(y.max()) < classes, "attack", "transfer from a model of these classes", str(self.from_))
        adv = random_point(x, index, self.eps, self.norm, self.seed, 0)
        with frozen(surrogate), torch.enable_grad():
            for _ in range(self.steps):
                adv = adv.detach().requires_grad_()
                gradient = gradient_of(attack_loss(surrogate(adv), y, "ce").sum(), adv)
                stepped = adv.detach() + self.eps / 4 * steepest_step(gradient, self.norm)
                adv = project(stepped, x, self.eps, self.norm)
        return adv.detach()
