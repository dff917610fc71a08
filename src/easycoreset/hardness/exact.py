"""The exact pass (as opposed to online recording): all clean samples, in eval mode; the model is left unchanged."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import gradient_of
from easycoreset.data import Batch
from easycoreset.errors import UsageError
from easycoreset.hardness import Gradient, Hardness, Outputs
from easycoreset.hardness.gradient import AIGN
from easycoreset.models.folding import fold_batch_norm
from easycoreset.models.last_layer import LastLayer, find_last_layer, float32_logits
from easycoreset.models.modes import Bf16Autocast, frozen, full_float32
from easycoreset.models.normalize import Normalize

P = ParamSpec("P")


def input_gradient_norms(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """L2 norm of the gradient of each sample's cross-entropy with respect to its input.

    The mean of these norms over the epochs of training is AIGN, the average input gradient norm.

    The model is set to eval mode and restored; parameters, `.grad` and buffers stay untouched.

    Args:
        model: maps [B,C,H,W] to logits [B, classes].
        x: [B,C,H,W], floating.
        y: [B] int64.

    Returns:
        [B], float32 or better; NaN if the logits are not finite.

    Raises:
        UsageError: in `torch.inference_mode`, or if no gradient flows to the input.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> input_gradient_norms(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).shape
    torch.Size([2])
    """
    if torch.is_inference_mode_enabled():
        raise UsageError("input_gradient_norms needs gradients; call it outside torch.inference_mode")
    differentiable: list[bool] = []
    hook = model.register_forward_hook(lambda _, __, logits: differentiable.append(logits.requires_grad))
    try:
        with frozen(model), full_float32(), _without_autocast(x.device.type):
            outputs = forward_with_gradient(model, x, y, gradient="loss")
    finally:
        hook.remove()
    if not all(differentiable):
        raise UsageError("input_gradient_norms: the model lets no gradient through to its input (no_grad inside it?)")
    return AIGN().measure(outputs).masked_fill(~torch.isfinite(outputs.logits).all(1), float("nan"))


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Disable autocast, in case the caller enabled it."""
    return torch.autocast(device_type, enabled=False) if device_type in ("cpu", "cuda") else contextlib.nullcontext()


def forward_with_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    gradient: Gradient,
    layer: LastLayer | None = None,
    **fields: Any,
) -> Outputs:
    """Run a `frozen` model: logits and, on request, input gradients and the inputs of a layer that captures them.

    The cross-entropy, or the true class's logit, is summed, so that each sample has a gradient of its own. `fields`
    are handed on to the `Outputs`.
    """
    if layer is not None:
        layer.captured.clear()  # drop inputs that were captured when a measure ran the model itself
    with torch.set_grad_enabled(gradient is not None):
        x = x.detach().requires_grad_(gradient is not None)
        logits = model(x)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        input_gradient = None
        if gradient == "loss":
            input_gradient = gradient_of(F.cross_entropy(logits, y, reduction="sum"), x)
        elif gradient == "true_logit":
            input_gradient = gradient_of(logits.gather(1, y[:, None]).sum(), x).detach()
    features = None if layer is None else layer.pop_features(len(x))
    has_bias = layer is not None and layer.has_bias
    return Outputs(
        logits.detach(), y, input_gradient, features=features, has_bias=has_bias, model=model, x=x.detach(), **fields
    )


def measure_on_device(
    model: nn.Module,
    batches: Callable[[], Iterable[Batch]],
    size: int,
    measures: Sequence[Hardness],
    advance: Callable[[int], None] = lambda samples: None,
    feature_layer: str | None = None,
    epoch: int = 1,
    seed: int = 0,
    bf16: bool = False,
    row_of: Tensor | None = None,
) -> dict[str, Tensor]:
    """Measure every sample with the model of one epoch, and leave the values where the model is.

    Args:
        model: the model of this epoch.
        batches: called for the batches of the clean split, once for each pass.
        size: N, the number of rows of the result.
        measures: what to measure.
        advance: called with the number of samples of each finished batch.
        feature_layer: name of the layer whose input is the features; None: the last linear layer.
        epoch: from 1; random draws depend on it, on `seed` and on the index of the sample.
        seed: see `epoch`.
        bf16: run the model under bf16 autocast, if all measures of a dtype allow it (`works_on_folded_model`); logits,
            gradients and norms stay float32.
        row_of: [number of samples] the row of each sample in the result; None: its index.

    Returns:
        column of each measure -> [N] float32, or [N, d] for wide values; NaN for a value that is not finite.
    """
    columns: dict[str, Tensor] = {}
    for kind in dict.fromkeys(pass_of(measure) for measure in measures):
        dtype = kind[0]
        group = {measure.column: measure for measure in measures if pass_of(measure) == kind}
        gradient: Gradient = next(
            (measure.gradient for measure in group.values() if measure.gradient is not None), None
        )
        network = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
        fields = {
            "epoch": epoch,
            "seed": seed,
            "input_std": normalisation_std(network),
            "trainable": tuple(name for name, p in network.named_parameters() if p.requires_grad),
        }
        can_fold = all(works_on_folded_model(measure) for measure in group.values())
        results: dict[str, Tensor] = {}
        layer = None
        layer_name = feature_layer
        with frozen(network), full_float32(), contextlib.ExitStack() as stack:
            for batch in batches():
                x = batch.x if dtype == "float32" else batch.x.to(getattr(torch, dtype))
                needs_features = any(measure.needs_features for measure in group.values())
                if needs_features and not results:  # found now, because folding may rename layers
                    layer_name = find_last_layer(network, x[:2], layer_name).name
                if can_fold and not results:  # the first batch
                    network = fold_batch_norm(network, x[:2], layer_name if needs_features else None)
                    if bf16:
                        stack.enter_context(float32_logits(network, x[:2]))
                        network = Bf16Autocast(network)
                        layer_name = layer_name and f"model.{layer_name}"
                if layer is None and needs_features:
                    layer = stack.enter_context(find_last_layer(network, x[:2], layer_name).capture_inputs())
                outputs = forward_with_gradient(
                    network, x, batch.y, gradient=gradient, layer=layer, index=batch.index, **fields
                )
                nonfinite = ~torch.isfinite(outputs.logits).all(1)  # their gradient may be 0, which is no measurement
                rows = batch.index if row_of is None else row_of[batch.index]
                for column, measure in group.items():
                    values = measure.measure(outputs).float()
                    if column not in results:
                        results[column] = values.new_full((size, *values.shape[1:]), float("nan"))
                    masked = nonfinite.view(-1, *[1] * (values.ndim - 1))
                    results[column][rows] = values.masked_fill(masked, float("nan"))
                advance(len(batch.index))
        columns |= {column: torch.full((size,), float("nan")) for column in group} | results  # without batches: NaN
    return {column: values.where(torch.isfinite(values), float("nan")) for column, values in columns.items()}


def _to_host(measure: Callable[P, dict[str, Tensor]]) -> Callable[P, dict[str, np.ndarray]]:
    @functools.wraps(measure)
    def measure_to_host(*args: P.args, **kwargs: P.kwargs) -> dict[str, np.ndarray]:
        return {column: values.cpu().numpy() for column, values in measure(*args, **kwargs).items()}

    return measure_to_host


measure_all = _to_host(measure_on_device)


def pass_of(measure: Hardness) -> tuple[str, bool]:
    """What measures must share to be measured in one pass: the dtype, and whether the true logit is differentiated."""
    return measure.dtype, measure.gradient == "true_logit"


def works_on_folded_model(measure: Hardness) -> bool:
    """Whether a measure is built in and does not run the model: it uses logits, features or input gradients."""
    return measure.online


def normalisation_std(model: nn.Module) -> Tensor | None:
    """Standard deviation of the model's normalisation, [C]; None unless that is its first module."""
    first = next((module for module in model.modules() if not list(module.children())), None)
    return first.std.flatten() if isinstance(first, Normalize) else None
