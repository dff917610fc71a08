"""Penultimate features of any model: what goes into its last linear layer."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from easycoreset.errors import UsageError, nearest, quote
from easycoreset.models.modes import frozen


@dataclass
class LastLayer:
    """The layer whose input is a model's features `h`.

    Attributes:
        name: as `named_modules` spells it.
        module: the layer.
        bias: whether it adds a bias, so that its gradient holds that of the bias too.
        seen: the inputs of the forward passes since `features` was last called.
    """

    name: str
    module: nn.Module
    bias: bool
    seen: list[Tensor] = field(default_factory=list[Tensor])

    @contextlib.contextmanager
    def watched(self) -> Iterator["LastLayer"]:
        """Keep the layer's inputs inside the `with` block; the hook is gone after it."""

        def note(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            self.seen.append((inputs or tuple(named.values()))[0].detach())

        hook = self.module.register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield self
        finally:
            hook.remove()
            self.seen.clear()

    def features(self, samples: int) -> Tensor:
        """What went in during the forward pass that just ended, [B, d].

        Raises:
            UsageError: the layer did not run once on the whole batch.
        """
        shapes = [tuple(inputs.shape) for inputs in self.seen]
        if len(self.seen) != 1 or len(self.seen[0]) != samples:
            raise UsageError(
                f"feature_layer {quote(self.name)} must run once on the {samples} samples; it saw {shapes}"
            )
        return self.seen.pop().flatten(1)


def find_last_layer(model: nn.Module, x: Tensor, name: str | None = None) -> LastLayer:
    """Find the layer whose input is `h`: the last `nn.Linear` executed, if its output is the logits, or the one named.

    Args:
        model: maps `x` to logits.
        x: [B,C,H,W], a batch to try it on.
        name: of the layer, as `model.named_modules()` spells it.

    Raises:
        UsageError: there is no such layer.
    """
    modules = dict(model.named_modules())
    if name is not None:
        ends = [known for known in modules if known.endswith(f".{name}")]
        name = ends[0] if name not in modules and len(ends) == 1 else name
        if name not in modules or not name:
            raise UsageError(f"feature_layer {quote(name)} is no layer of the model: {nearest(name, modules)}")
        return LastLayer(name, modules[name], getattr(modules[name], "bias", None) is not None)
    ran: list[tuple[str, Tensor]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: ran.append((name, output))

    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    hooks = [module.register_forward_hook(note(name)) for name, module in linear.items()]
    try:
        with frozen(model), torch.no_grad():
            logits = logits_of(model(x))
    finally:
        for hook in hooks:
            hook.remove()
    if not ran or ran[-1][1].shape != logits.shape or not torch.equal(ran[-1][1].float(), logits.float()):
        raise UsageError(
            "the model's logits do not come out of an nn.Linear: name the layer whose input is to be "
            "taken as features by --feature-layer"
        )
    last = ran[-1][0]
    return LastLayer(last, linear[last], linear[last].bias is not None)


def logits_of(output: Any) -> Tensor:
    """The logits in what a network returns: a tensor, or a mapping or an object that names them.

    Raises:
        UsageError: there are none.
    """
    named = output.get("logits", output) if isinstance(output, dict) else getattr(output, "logits", output)
    if not isinstance(named, Tensor):
        raise UsageError(f"the network must return logits, or an output that names them; got {type(output).__name__}")
    return named
