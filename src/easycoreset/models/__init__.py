"""Models that map images in [0,1] to logits: built in, torchvision's, or the user's own factory."""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from easycoreset.data import Source
from easycoreset.errors import EasycoresetWarning, UsageError, nearest
from easycoreset.files import SCHEMA_VERSION, read_json, write_atomic, write_json
from easycoreset.members import load_attribute
from easycoreset.models.normalize import Normalize

__all__ = ["MODELS", "ModelCard", "Normalize", "build_model", "choose_model", "load_model", "save_model"]

MODELS = {
    "digits-cnn": "easycoreset.models.digits_cnn:digits_cnn",
    "thin-resnet": "easycoreset.models.thin_resnet:thin_resnet",
    "resnet18": "easycoreset.models.resnet18:resnet18",
}
SMALL = ("digits-cnn", "thin-resnet")  # one CPU thread serves them best


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says: enough to build the model again, and where it comes from.

    Attributes:
        model: its spelling.
        shape: (C, H, W) of its inputs.
        mean: of its normalisation, a number a channel.
        std: likewise.
        class_names: a name for each output.
        eps: radius of its adversarial training, if any.
        provenance: data fingerprint, options, versions.
    """

    model: str
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    eps: float | None = None
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def choose_model(source: Source, device: torch.device) -> str:
    """The model for a data set where none was given."""
    side = max(source.shape[1:])
    if side <= 12:
        return "digits-cnn"
    if side > 64:
        return "torchvision:resnet18"
    return "resnet18" if device.type == "cuda" else "thin-resnet"


def build_model(card: ModelCard) -> nn.Module:
    """Build the model that a card describes, freshly initialised from torch's global generator.

    Normalisation is its first layer, except in a user's own factory, which returns the whole model.

    Raises:
        UsageError: unknown model, or one that does not fit the images.
    """
    channels, height, width = card.shape
    kind, _, name = card.model.partition(":")
    if card.model in MODELS:
        network = load_attribute("model", MODELS[card.model])(channels, len(card.class_names))
    elif kind == "torchvision":
        network = _torchvision(name, channels, len(card.class_names))
        _warn_of_large_stem(network, card.model, min(height, width))
    elif "." in kind and name:
        network = load_attribute("model", card.model)()
        if not isinstance(network, nn.Module):
            raise UsageError(f"model {card.model!r} must return an nn.Module; got {type(network).__name__}")
        return network
    else:
        raise UsageError(f"unknown model {card.model!r}: {nearest(card.model, [*MODELS, 'torchvision:resnet18'])}")
    return nn.Sequential(Normalize(card.mean, card.std), network)


def _torchvision(name: str, channels: int, classes: int) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UsageError(f"unknown model 'torchvision:{name}': {nearest(name, models.list_models(module=models))}")
    network = models.get_model(name, weights=None, num_classes=classes)
    return nn.Sequential(GreyToRGB(), network) if channels == 1 else network


class GreyToRGB(nn.Module):
    """Shows a grey image as three equal channels, for networks that expect colour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(-1, 3, -1, -1)


def _warn_of_large_stem(network: nn.Module, name: str, side: int) -> None:
    stem = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if stem is not None and max(stem.stride) > 1 and side < 64:  # pyright: ignore[reportArgumentType]
        warnings.warn(
            f"{name} begins with a stem for ImageNet; at {side} pixels it is another model than the one papers train "
            "on small images (resnet18 has the small stem)",
            EasycoresetWarning,
            stacklevel=4,
        )


def save_model(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write `model.safetensors` and `model.json`."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomic(folder / "model.safetensors", lambda path: save_file(state, path))
    write_json(folder / "model.json", {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(card)})


def read_card(folder: Path) -> ModelCard:
    """Read `model.json`.

    Raises:
        UsageError: missing or broken.
    """
    file = folder / "model.json"
    record = read_json(file)
    record.pop("schema_version", None)
    try:
        card = ModelCard(**record)
        lists = {key: tuple(getattr(card, key)) for key in ("shape", "mean", "std", "class_names")}
    except TypeError as error:
        raise UsageError(f"{file}: not a model card: {error}") from None
    if len(lists["shape"]) != 3 or not len(lists["mean"]) == len(lists["std"]) == lists["shape"][0]:
        raise UsageError(f"{file}: shape, mean and std do not fit together")
    return dataclasses.replace(card, **lists)


def load_model(folder: str | Path, model: str | None = None) -> nn.Module:
    """Load a trained model, as `score` and `train` wrote it, in eval mode on the CPU.

    Args:
        folder: holds `model.json` and `model.safetensors`.
        model: a `package.module:factory` that the card names is imported only when it is repeated here.

    Raises:
        UsageError: files missing or broken, weights of another architecture (which keys differ), or a factory
            that was not repeated.
    """
    folder = Path(folder)
    card = read_card(folder)
    kind = card.model.partition(":")[0]
    if card.model not in MODELS and kind != "torchvision" and model != card.model:
        raise UsageError(f"{folder / 'model.json'} names the factory {card.model!r}: repeat it as model to have it imported")
    if model not in (None, card.model):
        raise UsageError(f"model must be {card.model!r}, as {folder / 'model.json'} says; got {model!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)
        network = build_model(card)
    load_weights(network, folder / "model.safetensors")
    return network.eval()


def load_weights(network: nn.Module, file: Path) -> None:
    """Load a safetensors file into `network`.

    Raises:
        UsageError: the file is missing, broken, or of another architecture.
    """
    try:
        state = load_file(file)
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: not a readable safetensors file: {error}") from None
    own = network.state_dict()
    wrong = sorted(k for k in {*own, *state} if k not in own or k not in state or own[k].shape != state[k].shape)
    if wrong:
        raise UsageError(f"{file}: weights of another architecture; {len(wrong)} keys differ: {', '.join(wrong[:5])}")
    network.load_state_dict(state)
