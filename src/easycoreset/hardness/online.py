"""What a training step can measure by itself, and whether its loss is the one that was declared."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from easycoreset.errors import UsageError
from easycoreset.hardness import ForwardHardness, Hardness, Outputs, load_all_hardness
from easycoreset.hardness.gradient import AIGN

CLOSE = 0.1  # relative; how well a gradient must fit the reduction that was declared (bf16 rounds)


def load_online(specs: Sequence[str]) -> list[Hardness]:
    """Load the measures that a training step can give; where none are spelled, all that cost nothing.

    Raises:
        UsageError: one that needs a pass of its own.
    """
    measures: list[Hardness] = []
    for measure in load_all_hardness(specs):
        if not isinstance(measure, AIGN | ForwardHardness) or measure.dtype != "float32" or measure.opt_in:
            raise UsageError(f"hardness online must come from a training step, in float32; {measure.name!r} does not")
        measures.append(cast(Hardness, measure))
    return measures


def reduction_check(outputs: Outputs, reduction: str, scale: float) -> Callable[[Tensor], None]:
    """A hook on logits that compares their gradient with that of cross-entropy, reduced and scaled as declared.

    Raises (the hook does):
        UsageError: it is another.
    """
    factor = scale / (len(outputs.y) if reduction == "mean" else 1)

    def check(gradient: Tensor) -> None:
        expected = outputs.p.clone()
        expected[torch.arange(len(expected)), outputs.y] -= 1
        ratio = float(gradient.float().norm() / (expected.norm() * factor))
        if math.isfinite(ratio) and abs(ratio - 1) > CLOSE:
            raise UsageError(
                f"the gradient at the logits is {ratio:.4g} times that of cross-entropy with {reduction=} and "
                f"scale={scale:g}: declare the loop's reduction and scale, or loss=NAME where it is not plain "
                "cross-entropy"
            )

    return check
