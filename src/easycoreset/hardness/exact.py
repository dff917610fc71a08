"""The exact pass: every clean sample's logits and input gradient, in eval mode, leaving no trace in the model."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import gradient_of
from easycoreset.data import Batch
from easycoreset.errors import UsageError
from easycoreset.hardness import ForwardHardness, Hardness, Outputs
from easycoreset.hardness.gradient import AIGN
from easycoreset.models.folding import fold_batch_norm
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.models.modes import frozen, full_float32
from easycoreset.models.normalize import Normalize


def input_gradient_norms(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """L2 norm of each sample's own cross-entropy gradient with respect to its input: one epoch's term of AIGN.

    The model is put into eval mode and back; parameters, `.grad` and buffers stay untouched.

    Args:
        model: maps [B,C,H,W] to logits [B, classes].
        x: [B,C,H,W], floating.
        y: [B] int64.

    Returns:
        [B], float32 or better; NaN where the logits are not finite.

    Raises:
        UsageError: in `torch.inference_mode`, or a model that lets no gradient through to its input.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> input_gradient_norms(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 2])).shape
    torch.Size([2])
    """
    if torch.is_inference_mode_enabled():
        raise UsageError("input_gradient_norms needs gradients, which torch.inference_mode forbids: leave it first")
    passes: list[bool] = []
    hook = model.register_forward_hook(lambda _, __, logits: passes.append(logits.requires_grad))
    try:
        with frozen(model), full_float32(), _without_autocast(x.device.type):
            outputs = look(model, x, y, gradient=True)
    finally:
        hook.remove()
    if not all(passes):
        raise UsageError("input_gradient_norms: the model lets no gradient through to its input (no_grad inside it?)")
    return AIGN().measure(outputs).masked_fill(~torch.isfinite(outputs.logits).all(1), float("nan"))


def _without_autocast(kind: str) -> contextlib.AbstractContextManager[Any]:
    """Float32 where the caller works under autocast."""
    return torch.autocast(kind, enabled=False) if kind in ("cpu", "cuda") else contextlib.nullcontext()


def look(
    model: nn.Module, x: Tensor, y: Tensor, *, gradient: bool, layer: LastLayer | None = None, **facts: Any
) -> Outputs:
    """Logits and, if asked for, input gradients and (of a `layer` that is `watched`) features; `model` is `frozen`.

    The cross-entropy is summed, so that each sample's gradient is that of its own loss. `facts` are handed on.
    """
    if layer is not None:
        layer.seen.clear()  # a measure may have run the model too
    with torch.set_grad_enabled(gradient):
        x = x.detach().requires_grad_(gradient)
        logits = model(x)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        found = gradient_of(F.cross_entropy(logits, y, reduction="sum"), x) if gradient else None
    features = None if layer is None else layer.features(len(x))
    bias = layer is not None and layer.bias
    return Outputs(logits.detach(), y, found, features=features, bias=bias, model=model, x=x.detach(), **facts)


def measure_all(
    model: nn.Module,
    batches: Callable[[], Iterable[Batch]],
    size: int,
    measures: Sequence[Hardness],
    advance: Callable[[int], None] = lambda samples: None,
    feature_layer: str | None = None,
    epoch: int = 1,
    seed: int = 0,
    bf16: bool = False,
) -> dict[str, np.ndarray]:
    """Measure every sample once.

    Args:
        model: of this epoch.
        batches: gives the clean split's batches, anew for each arithmetic that the measures need.
        size: N.
        measures: what to measure.
        advance: told how many samples are done.
        feature_layer: name of the layer whose input is the features; None: the last linear layer.
        epoch: from 1; measures that draw at random draw by it, by `seed` and by a sample's index.
        seed: likewise.
        bf16: run the model under bf16 autocast; logits, gradients and norms stay float32.

    Returns:
        trajectory column -> [N] float32; NaN where the value is not finite.
    """
    columns: dict[str, np.ndarray] = {}
    for dtype in dict.fromkeys(measure.dtype for measure in measures):
        group = {measure.column: measure for measure in measures if measure.dtype == dtype}
        network = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
        facts = {
            "epoch": epoch,
            "seed": seed,
            "input_std": first_std(network),
            "trainable": tuple(name for name, p in network.named_parameters() if p.requires_grad),
        }
        ours = all(looks_at_outputs(measure) for measure in group.values())
        found: dict[str, Tensor] = {}
        layer = None
        named = feature_layer
        with frozen(network), full_float32(), contextlib.ExitStack() as watching:
            for batch in batches():
                x = batch.x if dtype == "float32" else batch.x.to(getattr(torch, dtype))
                features = any(measure.needs_features for measure in group.values())
                if features and not found:  # what is looked for in the model itself is found in what is run
                    named = find_last_layer(network, x[:2], named).name
                if ours and not found:  # the first batch
                    network, named = _prepare(network, x[:2], named if features else None, bf16)
                wants = any(measure.needs_gradient for measure in group.values())
                if layer is None and features:
                    layer = watching.enter_context(find_last_layer(network, x[:2], named).watched())
                outputs = look(network, x, batch.y, gradient=wants, layer=layer, index=batch.index, **facts)
                lost = ~torch.isfinite(outputs.logits).all(1)  # their gradient may be 0 all the same
                for column, measure in group.items():
                    if column not in found:
                        found[column] = torch.full((size,), float("nan"), device=batch.x.device)
                    found[column][batch.index] = measure.measure(outputs).float().masked_fill(lost, float("nan"))
                advance(len(batch.index))
        columns |= {column: np.full(size, np.nan, np.float32) for column in group}  # of no batch at all
        columns |= {column: values.cpu().numpy() for column, values in found.items()}
    for values in columns.values():
        values[~np.isfinite(values)] = np.nan
    return columns


def _prepare(model: nn.Module, x: Tensor, layer: str | None, bf16: bool) -> tuple[nn.Module, str | None]:
    """The model as it is run, and what the feature layer is called there."""
    model = fold_batch_norm(model, x, layer)
    return (InBfloat16(model), layer and f"model.{layer}") if bf16 else (model, layer)


class InBfloat16(nn.Module):
    """A model under bf16 autocast, with float32 logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.model(x)
        return logits.float()


def looks_at_outputs(measure: Hardness) -> bool:
    """Whether a measure is one of ours that looks at no more than logits, features and input gradient."""
    return isinstance(measure, AIGN | ForwardHardness) and not measure.opt_in


def first_std(model: nn.Module) -> Tensor | None:
    """Standard deviation of the model's own normalisation, [C], where that is its first module."""
    first = next((module for module in model.modules() if not list(module.children())), None)
    return first.std.flatten() if isinstance(first, Normalize) else None
