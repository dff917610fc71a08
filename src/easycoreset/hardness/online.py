"""What a training step can measure by itself, and whether its loss is the one that was declared."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from easycoreset.errors import UsageError, quote
from easycoreset.hardness import ForwardHardness, Hardness, Outputs, load_all_hardness
from easycoreset.hardness.gradient import AIGN

CLOSE = 0.015  # relative; how well a sample's gradient must fit the loss that was declared (bf16 rounds)
FEW = 0.05  # share of the samples that need not: confident ones cancel
SMALL = 1e-3  # norm of p - 1_y below which nothing is compared


def load_online(specs: Sequence[str]) -> list[Hardness]:
    """Load the measures that a training step can give; where none are spelled, all that cost nothing.

    Raises:
        UsageError: one that needs a pass of its own.
    """
    measures: list[Hardness] = []
    for measure in load_all_hardness(specs):
        if not isinstance(measure, AIGN | ForwardHardness) or measure.dtype != "float32" or measure.opt_in:
            raise UsageError(
                f"hardness online must come from a training step, in float32; {quote(measure.name)} does not"
            )
        measures.append(cast(Hardness, measure))
    return measures


def check_index(where: str, index: Any, batch: Tensor, num_samples: int) -> Tensor:
    """[B] int64 indices on the batch's device.

    Raises:
        UsageError: no whole numbers, of another length, or (on the CPU) out of range.
    """
    index, size = torch.as_tensor(index), len(batch)
    if index.dtype not in (torch.int64, torch.int32) or index.shape != (size,):
        raise UsageError(f"{where}: index must be [{size}] integers; got {index.dtype} {tuple(index.shape)}")
    known = index.device.type == "cpu" and size > 0  # looking at a device's would wait for it
    if known and not 0 <= int(index.min()) <= int(index.max()) < num_samples:
        raise UsageError(f"{where}: index must be in 0..{num_samples - 1}; got {int(index.min())}..{int(index.max())}")
    return index.to(batch.device, non_blocking=True).long()


def reduction_check(outputs: Outputs, reduction: str, scale: float) -> Callable[[Tensor], None]:
    """A hook on logits that compares each sample's gradient with that of cross-entropy, reduced and scaled as declared.

    Weights and label smoothing are seen by it; a loss beside it that does not pass through these logits is not.

    Raises (the hook does):
        UsageError: it is another.
    """
    factor = scale / (len(outputs.y) if reduction == "mean" else 1)

    def check(gradient: Tensor) -> None:
        expected = outputs.p.clone()
        expected[torch.arange(len(expected)), outputs.y] -= 1
        own, size = gradient.float() / factor, expected.norm(dim=1)
        off = ((own - expected).norm(dim=1) > CLOSE * size)[size > SMALL]
        ratio = float(own.norm() / expected.norm())
        if len(off) and math.isfinite(ratio) and float(off.float().mean()) > FEW:
            raise UsageError(
                f"the gradient at the logits is not that of cross-entropy with {reduction=} and scale={scale:g} (it is "
                f"{ratio:.4g} times it over all, another in {float(off.float().mean()):.0%} of the samples): declare "
                "the loop's reduction and scale, or loss=NAME where it is not plain cross-entropy"
            )

    return check
