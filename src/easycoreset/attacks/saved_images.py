"""Adversarial images from a file: `file:PATH`, a safetensors file of `index` and `x`."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from easycoreset.attacks.ball import Norm, check_ball
from easycoreset.errors import UsageError


class SavedImages:
    """Returns saved images by the samples' indices; the evaluation predicts their classes again.

    Args:
        path: holds `index` [n] integers and `x` [n,C,H,W] floating, as `evaluate --save-adversarial` writes them.
        eps: radius of the ball in which they must lie.
        norm: of the ball.
        seed: unused.

    Raises:
        UsageError: the file is missing, unreadable, or holds something else.
    """

    def __init__(self, path: Path, *, eps: float = 8 / 255, norm: Norm = "linf", seed: int = 0) -> None:
        check_ball(eps, norm, seed)
        self.path = path
        self.eps = eps
        self.norm = norm
        try:
            tensors = load_file(path)
            self.x = tensors["x"].float()
            index = tensors["index"]
        except FileNotFoundError:
            raise UsageError(f"attack file:{path}: no such file") from None
        except (SafetensorError, OSError, KeyError) as error:
            raise UsageError(f"attack file:{path}: needs `index` and `x` in a safetensors file: {error}") from None
        if index.ndim != 1 or index.is_floating_point() or self.x.ndim != 4 or len(index) != len(self.x):
            shapes = f"{tuple(index.shape)} and {tuple(self.x.shape)}"
            raise UsageError(f"attack file:{path}: index must be [n] integers and x [n,C,H,W]; got {shapes}")
        self.row_of = {int(sample): row for row, sample in enumerate(index)}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        samples = range(len(x)) if index is None else index.tolist()
        missing = [sample for sample in samples if sample not in self.row_of]
        if missing:
            raise UsageError(f"attack file:{self.path}: holds no image of sample {missing[0]}")
        images = self.x[torch.tensor([self.row_of[sample] for sample in samples])].to(x.device)
        if images.shape != x.shape:
            raise UsageError(
                f"attack file:{self.path}: images must be {tuple(x.shape[1:])}; got {tuple(images.shape[1:])}"
            )
        return images
