"""What a training step can measure by itself, and whether its loss is the one that was declared."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from easycoreset.errors import UsageError, quote, require
from easycoreset.hardness import ForwardHardness, Hardness, Outputs, load_all_hardness
from easycoreset.hardness.gradient import AIGN
from easycoreset.tables import Ints

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
    size = len(batch)
    try:
        index = torch.as_tensor(index)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"{where}: index must be [{size}] integers; got {quote(index)}") from None
    if index.dtype not in (torch.int64, torch.int32) or index.shape != (size,):
        raise UsageError(f"{where}: index must be [{size}] integers; got {index.dtype} {tuple(index.shape)}")
    known = index.device.type == "cpu" and size > 0  # looking at a device's would wait for it
    if known and not 0 <= int(index.min()) <= int(index.max()) < num_samples:
        raise UsageError(f"{where}: index must be in 0..{num_samples - 1}; got {int(index.min())}..{int(index.max())}")
    return index.to(batch.device, non_blocking=True).long()


def check_input(x: Tensor, scale: float, stds: dict[str, Tensor | None]) -> None:
    """Refuse what cannot be watched: an empty batch, integers, a scale or deviations that do not fit."""
    require(scale > 0 and math.isfinite(scale), "scale", "finite and > 0", scale)
    if x.ndim < 2 or not len(x):
        raise UsageError(f"watch: x must be [B, ...] with B >= 1; got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise UsageError(f"watch: x must be floating, since integers have no gradient; got {x.dtype}")
    for name, std in stds.items():
        require(std is None or len(std) in (1, x.shape[1]), name, f"1 or {x.shape[1]} numbers", std)


def check_output(logits: Tensor, y: Tensor) -> None:
    """Refuse logits that are not [B, classes], and soft labels or (on the CPU) labels outside the classes."""
    if logits.ndim != 2:
        raise UsageError(f"observe: logits must be [B, classes]; got {tuple(logits.shape)}")
    if not isinstance(y, Tensor) or y.dtype == torch.bool:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"observe: y must be a tensor of [{len(logits)}] integers; got {quote(y)}")
    if y.is_floating_point() or y.shape != (len(logits),):
        raise UsageError(
            f"observe: y must be [{len(logits)}] integers; got {y.dtype} {tuple(y.shape)}: mixed "
            "samples (Mixup, CutMix) have no hardness of their own"
        )
    known = y.device.type == "cpu" and len(y) > 0  # looking at a device's would wait for it
    classes = logits.shape[1]
    if known and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise UsageError(f"observe: y must be in 0..{classes - 1}; got {int(y.min())}..{int(y.max())}")


def read_class_weight(values: Sequence[float] | None) -> Tensor | None:
    """[classes] float32, or None where there are none.

    Raises:
        UsageError: not numbers that are finite and >= 0.
    """
    if values is None:
        return None
    try:
        found = torch.as_tensor(values, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        found = torch.full((1,), -1.0)
    fine = found.ndim == 1 and bool((torch.isfinite(found) & (found >= 0)).all())
    require(fine, "class_weight", "[classes], finite and >= 0", values)
    return found


def weights_of(class_weight: Tensor | None, y: Tensor, classes: int) -> list[Tensor]:
    """The weights [B] of samples, in a list; an empty one where classes are not weighed."""
    if class_weight is None:
        return []
    require(len(class_weight) == classes, "class_weight", f"of {classes} classes, as the logits", len(class_weight))
    return [class_weight.to(y.device)[y]]


def divide_by(size: int, reduction: str, weights: Sequence[Tensor], weighted: bool) -> float | Tensor:
    """By what a loss divides the sum over a batch of `size`: nothing, its size, or the sum of its samples' weights.

    Raises:
        UsageError: weights that are not known, since the batch was not observed.
    """
    if reduction != "mean" or not weighted:
        return float(size) if reduction == "mean" else 1.0
    if not weights or len(weights[0]) != size:
        raise UsageError("class_weight needs observe in every step, before the backward pass: it brings the labels")
    return weights[0].sum()


def online_norm(
    measure: AIGN, gradient: Tensor, factor: float | Tensor, input_std: Tensor | None, model_std: Tensor | None
) -> Tensor:
    """[B] norms of gradients in the space that a measure wants, the loss's scale and mean undone by `factor`."""
    inner = model_std
    if input_std is not None:
        inner = torch.ones(gradient.shape[1], device=gradient.device)  # it is in the model's space already
        if measure.space == "pixel":
            gradient = gradient / input_std.to(gradient.device, non_blocking=True).view(1, -1, 1, 1)
    elif inner is not None and measure.space == "model":
        inner = inner.to(gradient.device, non_blocking=True)
    norms = measure.measure_gradient(gradient, inner)
    return norms * (factor**2 if measure.squared else factor)


def label_rows(labels: Any, sample_ids: Sequence[str] | None, size: int) -> tuple[Ints, list[str]]:
    """Labels [N] and names [N] of recorded samples; zeros and the indices where they are not given.

    Raises:
        UsageError: of another length, or labels that are no integers.
    """
    own = np.zeros(size, np.int64) if labels is None else np.asarray(labels)
    require(own.ndim == 1 and np.issubdtype(own.dtype, np.integer), "labels", "integers [N]", str(own.dtype))
    ids = [str(row) for row in range(size)] if sample_ids is None else list(sample_ids)
    for name, given in (("labels", own), ("sample_ids", ids)):
        require(len(given) == size, name, f"of length num_samples={size}", len(given))
    return own.astype(np.int64), ids


def reduction_check(outputs: Outputs, weights: list[Tensor], reduction: str, scale: float) -> Callable[[Tensor], None]:
    """A hook on logits that compares each sample's gradient with that of cross-entropy, reduced as declared.

    Weights and label smoothing are seen by it; a loss beside it that does not pass through these logits is not.

    Args:
        outputs: logits and labels of the batch.
        weights: [B] of the samples, in a list; an empty one where they are equal.
        reduction: of the loss, as declared.
        scale: by which it was multiplied.

    Raises (the hook does):
        UsageError: it is another.
    """
    divisor = divide_by(len(outputs.y), reduction, weights, bool(weights)) / scale

    def check(gradient: Tensor) -> None:
        expected = outputs.p.clone()
        expected[torch.arange(len(expected)), outputs.y] -= 1
        expected = expected * weights[0][:, None] if weights else expected
        own = gradient.float() * divisor
        size = expected.norm(dim=1)
        off = ((own - expected).norm(dim=1) > CLOSE * size)[size > SMALL]
        ratio = float(own.norm() / expected.norm())
        if len(off) and math.isfinite(ratio) and float(off.float().mean()) > FEW:
            raise UsageError(
                f"the gradient at the logits is not that of cross-entropy with {reduction=} and scale={scale:g} (it is "
                f"{ratio:.4g} times it over all, another in {float(off.float().mean()):.0%} of the samples): declare "
                "the loop's reduction and scale, or loss=NAME where it is not plain cross-entropy (class_weight where "
                "it weighs classes)"
            )

    return check
