"""Random crop and flip of a whole batch at once, a fresh draw for every image."""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Flip, or crop after zero padding by 4 and flip.

    Args:
        images: [B,H,W,C].
        kind: none, flip or crop-flip.
        generator: of the draws, on the CPU.

    Returns:
        [B,H,W,C], the same dtype.
    """
    if kind == "none":
        return images
    B, H, W, _ = images.shape
    rows = torch.arange(H).expand(B, H)
    columns = torch.arange(W).expand(B, W)
    flipped = torch.rand(B, generator=generator) < 0.5
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if kind == "crop-flip":
        shift = torch.randint(2 * PADDING + 1, (2, B, 1), generator=generator)
        rows, columns = rows + shift[0], columns + shift[1]
        images = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
    where = torch.arange(B, device=images.device)[:, None, None]
    return images[where, rows.to(images.device)[:, :, None], columns.to(images.device)[:, None, :]]
