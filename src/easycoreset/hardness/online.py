"""Hardness from training steps, and the check that their loss is the declared one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from easycoreset.errors import UsageError, quote, require
from easycoreset.hardness import Hardness, Outputs, load_hardness
from easycoreset.hardness.gradient import AIGN
from easycoreset.tables import Ints

TOLERANCE = 0.015  # relative error of a sample's gradient against the declared loss's gradient (bf16 rounds)
MAX_OUTLIERS = 0.05  # share of the samples that may exceed it: p - 1_y loses digits for confident samples
MIN_NORM = 1e-3  # samples whose p - 1_y has a smaller norm are not compared


def load_online(specs: Sequence[str]) -> list[Hardness]:
    """Load the measures that a training step can give; without specs, all that are not expensive.

    Raises:
        UsageError: a measure needs a separate pass.
    """
    measures = load_hardness(specs, in_training=True)
    for measure in measures:
        if not measure.online or measure.dtype != "float32":
            raise UsageError(
                f"hardness recorded online must be computable in a training step, in float32; {quote(measure.name)} "
                "is not"
            )
    return measures


def check_recording(
    num_samples: int, reduction: str, every: int, first: int | None, input_std: Sequence[float] | None
) -> None:
    """Validate the options of a recorder."""
    require(num_samples >= 1, "num_samples", ">= 1", num_samples)
    require(reduction in ("mean", "sum", "none"), "reduction", "mean, sum or none", reduction)
    require(every >= 1, "every", ">= 1", every)
    require(first is None or first >= 1, "first", ">= 1", first)
    require(input_std is None or min(input_std) > 0, "input_std", "> 0", input_std)


def std_tensor(values: Sequence[float] | None) -> Tensor | None:
    """Standard deviations as float32; None stays None."""
    return None if values is None else torch.tensor(values, dtype=torch.float32)


def check_index(caller: str, index: Any, batch: Tensor, num_samples: int) -> Tensor:
    """Convert to [B] int64 indices on the device of the batch.

    Raises:
        UsageError: the indices are not integers, have another length, or (on the CPU) are out of range.
    """
    size = len(batch)
    try:
        index = torch.as_tensor(index)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"{caller}: index must be [{size}] integers; got {quote(index)}") from None
    if index.dtype not in (torch.int64, torch.int32) or index.shape != (size,):
        raise UsageError(f"{caller}: index must be [{size}] integers; got {index.dtype} {tuple(index.shape)}")
    on_cpu = index.device.type == "cpu" and size > 0  # reading values on a GPU would wait for it
    if on_cpu and not 0 <= int(index.min()) <= int(index.max()) < num_samples:
        raise UsageError(f"{caller}: index must be in 0..{num_samples - 1}; got {int(index.min())}..{int(index.max())}")
    return index.to(batch.device, non_blocking=True).long()


def check_input(x: Tensor, scale: float, stds: dict[str, Tensor | None]) -> None:
    """Raise for an empty batch, integers, or an invalid scale or standard deviation."""
    require(scale > 0 and math.isfinite(scale), "scale", "finite and > 0", scale)
    if x.ndim < 2 or not len(x):
        raise UsageError(f"watch: x must be [B, ...] with B >= 1; got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise UsageError(f"watch: x must be floating, since integers have no gradient; got {x.dtype}")
    for name, std in stds.items():
        require(std is None or len(std) in (1, x.shape[1]), name, f"1 or {x.shape[1]} numbers", std)


def check_output(logits: Tensor, y: Tensor) -> None:
    """Raise for logits that are not [B, classes], soft labels, or (on the CPU) labels out of range."""
    if logits.ndim != 2:
        raise UsageError(f"observe: logits must be [B, classes]; got {tuple(logits.shape)}")
    if not isinstance(y, Tensor) or y.dtype == torch.bool:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"observe: y must be a tensor of [{len(logits)}] integers; got {quote(y)}")
    if y.is_floating_point() or y.shape != (len(logits),):
        raise UsageError(
            f"observe: y must be [{len(logits)}] integers; got {y.dtype} {tuple(y.shape)}: mixed "
            "samples (Mixup, CutMix) have no per-sample hardness"
        )
    on_cpu = y.device.type == "cpu" and len(y) > 0  # reading values on a GPU would wait for it
    classes = logits.shape[1]
    if on_cpu and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise UsageError(f"observe: y must be in 0..{classes - 1}; got {int(y.min())}..{int(y.max())}")


def read_class_weight(values: Sequence[float] | None) -> Tensor | None:
    """Convert to [classes] float32; None stays None.

    Raises:
        UsageError: the values are not finite numbers >= 0.
    """
    if values is None:
        return None
    try:
        weight = torch.as_tensor(values, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        weight = torch.full((1,), -1.0)  # fails the check below
    valid = weight.ndim == 1 and bool((torch.isfinite(weight) & (weight >= 0)).all())
    require(valid, "class_weight", "[classes], finite and >= 0", values)
    return weight


def sample_weights(class_weight: Tensor | None, y: Tensor, classes: int) -> list[Tensor]:
    """The weights [B] of samples, in a list; an empty list without class weights."""
    if class_weight is None:
        return []
    require(len(class_weight) == classes, "class_weight", f"of {classes} classes, as the logits", len(class_weight))
    return [class_weight.to(y.device)[y]]


def loss_divisor(size: int, reduction: str, weights: Sequence[Tensor], weighted: bool) -> float | Tensor:
    """The number by which a loss divides its sum over a batch: 1, `size`, or the sum of the sample weights.

    Raises:
        UsageError: the weights are unknown, since the batch was not observed.
    """
    if reduction != "mean" or not weighted:
        return float(size) if reduction == "mean" else 1.0
    if not weights or len(weights[0]) != size:
        raise UsageError("class_weight needs observe in every step, before the backward pass: it provides the labels")
    return weights[0].sum()


def online_norm(
    measure: AIGN, gradient: Tensor, factor: float | Tensor, input_std: Tensor | None, model_std: Tensor | None
) -> Tensor:
    """[B] norms of gradients in the space of a measure; `factor` undoes the scale and reduction of the loss."""
    space_std = model_std
    if input_std is not None:
        space_std = torch.ones(gradient.shape[1], device=gradient.device)  # the input is in the model's space already
        if measure.space == "pixel":
            gradient = gradient / input_std.to(gradient.device, non_blocking=True).view(1, -1, 1, 1)
    elif space_std is not None and measure.space == "model":
        space_std = space_std.to(gradient.device, non_blocking=True)
    norms = measure.measure_gradient(gradient, space_std)
    return norms * (factor**2 if measure.squared else factor)


def check_recorded_labels(labels: Any, sample_ids: Sequence[str] | None, size: int) -> tuple[Ints, list[str]]:
    """Labels [N] and sample ids [N] of recorded samples; by default zeros and the indices.

    Raises:
        UsageError: labels or ids have another length, or the labels are not integers.
    """
    y = np.zeros(size, np.int64) if labels is None else np.asarray(labels)
    require(
        y.ndim == 1 and np.issubdtype(y.dtype, np.integer),
        "labels",
        "integers [N]",
        str(y.dtype),
    )
    ids = [str(row) for row in range(size)] if sample_ids is None else list(sample_ids)
    for name, values in (("labels", y), ("sample_ids", ids)):
        require(len(values) == size, name, f"of length num_samples={size}", len(values))
    return y.astype(np.int64), ids


def make_reduction_hook(
    outputs: Outputs, weights: list[Tensor], reduction: str, scale: float
) -> Callable[[Tensor], None]:
    """Make a hook that compares the gradient at the logits with the gradient of cross-entropy, reduced as declared.

    It detects weights and label smoothing, but not an additional loss that bypasses these logits.

    Args:
        outputs: logits and labels of the batch.
        weights: the sample weights [B], in a list; an empty list for equal weights.
        reduction: the declared reduction of the loss.
        scale: the declared factor of the loss.

    Raises (the hook does):
        UsageError: the gradient differs.
    """
    divisor = loss_divisor(len(outputs.y), reduction, weights, bool(weights)) / scale

    def check(gradient: Tensor) -> None:
        expected = outputs.p.scatter_add(1, outputs.y[:, None], outputs.p.new_full((len(outputs.y), 1), -1))
        expected = expected * weights[0][:, None] if weights else expected
        actual = gradient.float() * divisor
        norm = expected.norm(dim=1)
        compared = norm > MIN_NORM
        outliers = compared & ((actual - expected).norm(dim=1) > TOLERANCE * norm)
        share = outliers.sum() / compared.sum().clamp_min(1)
        share, ratio = torch.stack([share, actual.norm() / expected.norm()]).tolist()
        if math.isfinite(ratio) and share > MAX_OUTLIERS:
            raise UsageError(
                f"the gradient at the logits is not the gradient of cross-entropy with {reduction=} and "
                f"scale={scale:g} (it is {ratio:.4g} times as large; {share:.0%} of the "
                "samples differ): declare the reduction and scale of the loop, or loss=NAME if it is not plain "
                "cross-entropy (class_weight if it weights classes)"
            )

    return check
