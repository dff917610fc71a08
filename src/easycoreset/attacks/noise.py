"""Random points of the ball: a black-box attack that needs no gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, check_ball, random_point
from easycoreset.attacks.open_rows import OpenRows, write_rows
from easycoreset.errors import require
from easycoreset.models.modes import frozen


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The first of `draws` uniform random points of the ball that the model misclassifies, or else the last."""

    version: ClassVar[int] = 1
    strength: ClassVar[tuple[int, ...]] = (0,)
    eps: float = 8 / 255
    norm: Norm = "linf"
    draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.seed)
        require(self.draws >= 1, "draws", ">= 1", self.draws)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        index = torch.arange(len(x), device=x.device) if index is None else index
        result = x.detach().clone()
        rows = torch.arange(len(x), device=x.device)
        done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        open_rows = OpenRows()
        with frozen(model), torch.no_grad():
            for draw in range(self.draws):
                if not len(rows):
                    break
                points = random_point(x[rows].detach(), index[rows], self.eps, self.norm, self.seed, draw)
                write_rows(result, rows, ~done, points)
                done = done | (model(points).argmax(1) != y[rows])
                if (kept := open_rows.select(done)) is not None:
                    rows, done = rows[kept], done[kept]
        return result
