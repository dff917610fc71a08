"""Models as users bring them that break what code silently assumes of a model; 1x8x8 images and 10 classes unless one says otherwise."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Plain(nn.Module):
    """A small network without an oddness, which the others change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class InplaceInput(Plain):
    """Normalises its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).div_(0.5))


class DetachedInput(Plain):
    """Cuts the graph at its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class HardThreshold(Plain):
    """Rounds its input to 0 and 1, which has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x > 0.5).float())


class NoParameters(nn.Module):
    """Takes ten pixels for logits, so that there is nothing to train."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 20:30]


class HeadTwice(Plain):
    """Registers its head under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = self.head


class TiedWeights(Plain):
    """Two layers share one weight, as encoders and decoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(16, 16)
        self.decode = nn.Linear(16, 16)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decode(self.encode(self.body(x))))


class ExtraState(Plain):
    """Puts a dictionary beside the tensors of its state dict."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state["version"] == 3


class ExpandedBuffer(Plain):
    """Keeps a buffer whose elements share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1).expand(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x) + self.shift)


class ReturnsTuple(Plain):
    """Returns features beside the logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.head(features), features


class ReturnsDict(Plain):
    """Returns a dictionary that names the logits."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


@dataclass
class Output:
    """What `ReturnsDataclass` returns."""

    logits: Tensor


class ReturnsDataclass(Plain):
    """Returns an object that names the logits."""

    def forward(self, x: Tensor) -> Output:
        return Output(super().forward(x))


class ReturnsFlat(Plain):
    """Returns one number a sample, [B]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


class ReturnsMaps(Plain):
    """Returns logits as maps of one pixel, [B, 10, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., None, None]


class CosineLinear(nn.Linear):
    """A linear layer whose logits are ten times a cosine."""

    def forward(self, x: Tensor) -> Tensor:
        normalize = nn.functional.normalize
        return 10 * nn.functional.linear(normalize(x), normalize(self.weight))


class Noisy(Plain):
    """Adds noise to its logits in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits + torch.randn_like(logits)


class CountsInEval(Plain):
    """Changes a buffer in every forward pass, in eval mode too, and goes by it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x) / (1 + self.seen)


class RaisesForward(Plain):
    """Raises on every batch, over several lines."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such layer:\n  conv7\n  in stage 3")


class Auxiliary(Plain):
    """Returns a second output in train mode only, as GoogLeNet does."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class NoGrad(Plain):
    """Runs without a graph."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class HugeLogits(Plain):
    """Logits so large that the softmax is 0 and 1, and the gradient nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1e6


class ConstantLogits(Plain):
    """Gives every sample the same logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.zeros(len(x), 16, device=x.device))


class Unpicklable(Plain):
    """Keeps a lambda, and hooks that change its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = lambda logits: logits * 2
        self.head.register_forward_hook(lambda module, inputs, output: self.scale(output))


def lazy_linear() -> nn.Module:
    """Layers whose parameters have no shape before the first batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the lazy layers are new
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))


def quantised() -> nn.Module:
    """Linear layers in eight bits, whose weights are no parameters and which have no gradient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that torch.ao moves
        return torch.ao.quantization.quantize_dynamic(Plain(), {nn.Linear}, torch.qint8)


def meta_device() -> nn.Module:
    """Parameters that have shapes and no values."""
    with torch.device("meta"):
        return Plain()


def own_head() -> nn.Module:
    """A head of a class of its own, after batch norm."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), CosineLinear(16, 10, bias=False))


def half_precision() -> nn.Module:
    """Parameters in float16."""
    return Plain().half()


def frozen_parameters() -> nn.Module:
    """No parameter wants a gradient."""
    return Plain().requires_grad_(False)


def scripted() -> nn.Module:
    """A model of TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript ends
        return torch.jit.script(Plain())


def data_parallel() -> nn.Module:
    """A model in DataParallel, whose names begin with `module.`."""
    return nn.DataParallel(Plain())


def spectral_norm() -> nn.Module:
    """A parametrised head, whose power iteration runs in train mode."""
    model = Plain()
    parametrizations.spectral_norm(parametrizations.weight_norm(model.head))
    return model


FACTORIES: tuple[Callable[[], nn.Module], ...] = (
    InplaceInput,
    DetachedInput,
    HardThreshold,
    NoParameters,
    HeadTwice,
    TiedWeights,
    ExtraState,
    ExpandedBuffer,
    ReturnsTuple,
    ReturnsDict,
    ReturnsDataclass,
    ReturnsFlat,
    ReturnsMaps,
    Noisy,
    CountsInEval,
    RaisesForward,
    Auxiliary,
    NoGrad,
    HugeLogits,
    ConstantLogits,
    Unpicklable,
    lazy_linear,
    quantised,
    meta_device,
    own_head,
    half_precision,
    frozen_parameters,
    scripted,
    data_parallel,
    spectral_norm,
)
ODD_MODELS: dict[str, Callable[[], nn.Module]] = {factory.__name__: factory for factory in FACTORIES}
