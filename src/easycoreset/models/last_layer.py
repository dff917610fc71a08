"""Penultimate features of any model: the input of its last linear layer."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.models.modes import frozen


@dataclass
class LastLayer:
    """The layer whose input is a model's features `h`.

    Attributes:
        name: as in `named_modules`.
        module: the layer.
        has_bias: whether it adds a bias, whose gradient then is part of the layer's.
        captured: inputs of the forward passes since `pop_features` was last called.
    """

    name: str
    module: nn.Module
    has_bias: bool
    captured: list[Tensor] = field(default_factory=list[Tensor])

    @contextlib.contextmanager
    def capture_inputs(self) -> Iterator["LastLayer"]:
        """Capture the layer's inputs inside the `with` block, by a hook that is removed after it."""

        def record(module: nn.Module, inputs: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self.captured.append((inputs or tuple(kwargs.values()))[0].detach())

        handle = self.module.register_forward_pre_hook(record, with_kwargs=True)
        try:
            yield self
        finally:
            handle.remove()
            self.captured.clear()

    def pop_features(self, samples: int) -> Tensor:
        """Remove and return the layer's input in the last forward pass, [B, d].

        Raises:
            UsageError: the layer did not run once on the whole batch.
        """
        shapes = [tuple(inputs.shape) for inputs in self.captured]
        if len(self.captured) != 1 or len(self.captured[0]) != samples:
            raise UsageError(
                f"feature_layer {quote(self.name)} must run once on the {samples} samples; got inputs {shapes}"
            )
        return self.captured.pop().flatten(1)


def find_last_layer(model: nn.Module, x: Tensor, name: str | None = None) -> LastLayer:
    """Find the layer whose input is `h`: `name`, or the last `nn.Linear` executed, if its output is the logits.

    Args:
        model: maps `x` to logits.
        x: [B,C,H,W], a batch for a trial forward pass.
        name: of the layer, as in `model.named_modules()`.

    Raises:
        UsageError: there is no such layer.
    """
    modules = dict(model.named_modules())
    if name is not None:
        matches = [path for path in modules if path.endswith(f".{name}")]
        name = matches[0] if name not in modules and len(matches) == 1 else name
        if name not in modules or not name:
            raise UsageError(f"feature_layer {quote(name)} is no layer of the model: {suggest_name(name, modules)}")
        return LastLayer(name, modules[name], getattr(modules[name], "bias", None) is not None)
    executed: list[tuple[str, Tensor]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: executed.append((name, output))

    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    handles = [module.register_forward_hook(record(name)) for name, module in linear.items()]
    try:
        with frozen(model), torch.no_grad():
            logits = extract_logits(model(x))
    finally:
        for handle in handles:
            handle.remove()
    if (
        not executed
        or executed[-1][1].shape != logits.shape
        or not torch.equal(executed[-1][1].float(), logits.float())
    ):
        raise UsageError(
            "the model's logits do not come out of an nn.Linear: give --feature-layer, the name of the "
            "layer whose input is used as features"
        )
    last = executed[-1][0]
    return LastLayer(last, linear[last], linear[last].bias is not None)


class Float32Linear(nn.Linear):
    """A linear layer that computes outside autocast, in the dtype of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


@contextlib.contextmanager
def float32_logits(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Let the layer that gives the logits of `x` compute in float32 inside the `with` block, also under autocast.

    In bfloat16 logits have 8 bits of precision: margins, and measures based on them, would take few values. A model
    whose logits do not come out of an `nn.Linear` stays as it is.
    """
    try:
        layer = find_last_layer(model, x).module
    except UsageError:
        layer = None
    if type(layer) is Float32Linear:  # in an enclosing `with`
        yield
        return
    if type(layer) is not nn.Linear:
        _say_rounded(type(model).__name__)
        yield
        return
    layer.__class__ = Float32Linear
    try:
        yield
    finally:
        layer.__class__ = nn.Linear


@cache
def _say_rounded(name: str) -> None:
    """Say, once a process, that measures of logits take few values."""
    log.info("logits of %s stay in bf16: they do not come out of a plain nn.Linear", name)


def extract_logits(output: Any) -> Tensor:
    """Get the logits from a network's output: a tensor, or a mapping or an object with `logits`.

    Raises:
        UsageError: the output has no logits.
    """
    logits = output.get("logits", output) if isinstance(output, dict) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise UsageError(f"the network must return logits, or an output with `logits`; got {type(output).__name__}")
    return logits
