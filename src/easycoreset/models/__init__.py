"""Models that map images in [0,1] to logits: built in, torchvision's, timm's, or from a user's factory."""

import warnings

import torch
from torch import nn

from easycoreset.errors import EasycoresetWarning, UsageError, quote, suggest_name
from easycoreset.members import load_attribute
from easycoreset.models.adaptation import adapt
from easycoreset.models.card import ModelCard
from easycoreset.models.normalize import Normalize
from easycoreset.models.timm import build_timm
from easycoreset.user_modules import USER_MODULE_HINT, is_user_spec

MODELS = {
    "digits-cnn": "easycoreset.models.digits_cnn:digits_cnn",
    "thin-resnet": "easycoreset.models.thin_resnet:thin_resnet",
    "resnet18": "easycoreset.models.resnet18:resnet18",
    "wrn-28-10": "easycoreset.models.wide_resnet:wrn_28_10",
    "wrn-34-10": "easycoreset.models.wide_resnet:wrn_34_10",
}
KNOWN_MODELS = (*MODELS, "torchvision:resnet18", "timm:resnet18")
CPU_THREADS = {"digits-cnn": 1, "thin-resnet": 2}  # more do not make these models faster


def choose_model(shape: tuple[int, int, int], device: torch.device) -> str:
    """The default model for images of `shape` (C, H, W) on a device."""
    side = max(shape[1:])
    if side <= 12:
        return "digits-cnn"
    if side > 64:
        return "torchvision:resnet18"
    return "resnet18" if device.type == "cuda" else "thin-resnet"


def build_model(card: ModelCard) -> nn.Module:
    """Build the model that a card describes, freshly initialised from torch's global generator.

    Normalisation is its first layer, except with a user's factory, which returns the whole model.

    Raises:
        UsageError: unknown model, or one that does not fit the images.
    """
    network = build_network(card)
    return nn.Sequential(Normalize(card.mean, card.std), network) if adds_normalisation(card.model) else network


def user_factory(model: str | None) -> str | None:
    """The model where it is a factory of the user's own module, which is imported only when it is named again."""
    return model if model and not adds_normalisation(model) else None


def adds_normalisation(model: str) -> bool:
    """Whether we put a normalisation layer before the network; a user's factory returns the whole model."""
    return model in MODELS or model.startswith(("torchvision:", "timm:"))


def build_network(card: ModelCard) -> nn.Module:
    """Build the network that a card describes, without our normalisation layer.

    Raises:
        UsageError: unknown model, or one that does not fit the images.
    """
    channels, height, width = card.shape
    library, _, name = card.model.partition(":")
    if card.model in MODELS:
        return load_attribute("model", MODELS[card.model])(channels, len(card.class_names))
    if library in ("torchvision", "timm"):
        classes = len(card.class_names)
        is_torchvision = library == "torchvision"
        network = (
            _build_torchvision(name, channels, classes) if is_torchvision else build_timm(name, card.shape, classes)
        )
        _warn_of_large_stem(network, card.model, min(height, width))
        return adapt(network, card.shape, card.model)
    if is_user_spec(card.model):
        network = _call_factory(card.model)
        if not isinstance(network, nn.Module):
            raise UsageError(f"model {quote(card.model)} must return an nn.Module; got {type(network).__name__}")
        return adapt(network, card.shape, card.model)
    raise UsageError(f"unknown model {quote(card.model)}: {suggest_name(card.model, KNOWN_MODELS)}{USER_MODULE_HINT}")


def _call_factory(name: str) -> nn.Module:
    """Call a user's factory, which takes no arguments and returns a model that maps images in [0,1] to logits."""
    factory = load_attribute("model", name)
    try:
        return factory()
    except Exception as error:  # a user's factory may raise anything
        raise UsageError(f"model {quote(name)} must build without arguments: {type(error).__name__}: {error}") from None


def _build_torchvision(name: str, channels: int, classes: int) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        names = [f"torchvision:{model}" for model in models.list_models(module=models)]
        raise UsageError(f"unknown model 'torchvision:{name}': {suggest_name(f'torchvision:{name}', names)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about how some models will be initialised
        network = models.get_model(name, weights=None, num_classes=classes)
    return nn.Sequential(GreyToRGB(), network) if channels == 1 else network


class GreyToRGB(nn.Module):
    """Repeats a grey image in three equal channels, for networks that expect colour."""

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
