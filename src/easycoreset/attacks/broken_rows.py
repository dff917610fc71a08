"""The package's APGD without passes for images that are broken already; the outcome of every image stays the same."""

from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import per_sample_view


class SkipBrokenRows:
    """Mixin of the package's APGD attacks: within a run, the model sees an image until it is misclassified.

    The package goes on with all images to the last step, though a broken one stays broken. Random starts are drawn for
    all of them as before, and no image's steps depend on another's.
    """

    model: nn.Module

    def attack_single_run(self, x: Tensor, y: Tensor, x_init: Tensor | None = None) -> tuple[Tensor, ...]:
        """The package's run; the adversarial image of a broken row is the first that was misclassified."""
        whole, self.model = self.model, OpenRowsModel(self.model, y)
        try:
            best, standing, loss, x_adv = _single_run(super(), x, y, x_init)
            return best, standing, loss, self.model.first_broken(x_adv)
        finally:
            self.model = whole


def _single_run(package_attack: Any, x: Tensor, y: Tensor, x_init: Tensor | None) -> tuple[Tensor, ...]:
    return package_attack.attack_single_run(x, y, x_init)


class OpenRowsModel(nn.Module):
    """Passes a batch's rows through a model until they are misclassified; then it repeats their last logits.

    Args:
        model: [B,C,H,W] -> [B,K].
        y: [B], the classes of the rows, which are the same in all calls.
    """

    def __init__(self, model: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.model = model
        self._y = y
        self._broken = torch.zeros_like(y, dtype=torch.bool)
        self._logits: Tensor | None = None
        self._images: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B,K] logits; those of broken rows are constants."""
        if self._logits is None or self._images is None:
            logits = self.model(x)
            self._images = x.detach().clone()
        else:
            rows = (~self._broken).nonzero().squeeze(1)
            logits = self._logits + 0 * x.flatten(1).sum(1, keepdim=True)  # so that x gets a gradient if no row is left
            if len(rows):
                logits = logits.index_copy(0, rows, self.model(x[rows]))
                self._images[rows] = x[rows].detach()
        self._logits = logits.detach()
        self._broken |= logits.detach().max(1)[1] != self._y
        return logits

    def first_broken(self, x_adv: Tensor) -> Tensor:
        """`x_adv` with the first misclassified image of every broken row."""
        return x_adv if self._images is None else torch.where(per_sample_view(self._broken), self._images, x_adv)
