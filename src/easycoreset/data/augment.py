"""Random crop and flip of a whole batch at once, drawn independently for every image."""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Flip, or crop after zero padding by 4 and flip.

    Args:
        images: [B,H,W,C].
        kind: none, flip or crop-flip.
        generator: CPU random generator.

    Returns:
        [B,H,W,C] of the same dtype.
    """
    if kind == "none":
        return images
    B, H, W, _ = images.shape
    device = images.device
    draws = (torch.rand(B, generator=generator) < 0.5).long()[None]
    if kind == "crop-flip":
        draws = torch.cat([draws, torch.randint(2 * PADDING + 1, (2, B), generator=generator)])
    flipped, *shifts = draws.to(device, non_blocking=True)[:, :, None]
    rows = torch.arange(H, device=device).expand(B, H)
    columns = torch.arange(W, device=device)
    columns = torch.where(flipped == 1, columns.flip(0), columns)
    if kind == "crop-flip":
        rows = rows + shifts[0]
        columns = columns + shifts[1]
        images = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
    batch = torch.arange(B, device=device)
    return images[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
