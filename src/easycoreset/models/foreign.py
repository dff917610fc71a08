"""Foreign weights: a state dict that was saved elsewhere, loaded into a named model."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from easycoreset.errors import require
from easycoreset.models import GreyToRGB, adds_normalisation, build_network
from easycoreset.models.card import ModelCard
from easycoreset.models.normalize import Normalize
from easycoreset.models.weights import read_state


def load_foreign(file: Path, card: ModelCard, mean: Sequence[float] = (), std: Sequence[float] = ()) -> nn.Module:
    """Build the model that a card names, without our normalisation, and load a foreign state dict into it.

    Args:
        file: safetensors, or anything else that `torch.load(weights_only=True)` reads.
        card: gives `model`, `shape` and `class_names`.
        mean: to subtract from the model's input, one number or one a channel; () where the model takes [0,1].
        std: to divide the input by, likewise.

    Raises:
        UsageError: an unreadable file, weights of another architecture (which keys differ), or a wrong mean or std.
    """
    network = build_network(card)
    unwrapped = network[1] if isinstance(network, nn.Sequential) and isinstance(network[0], GreyToRGB) else network
    targets = {"network": network, "bare": unwrapped}
    if adds_normalisation(card.model) and not mean:
        targets = {"ours": nn.Sequential(Normalize(card.mean, card.std), network), **targets}
    name, state = read_state(file, {name: target.state_dict() for name, target in targets.items()}, card.model)
    targets[name].load_state_dict(state, strict=False)
    model = targets["ours"] if name == "ours" else network
    return model.eval() if not mean else prepend_normalisation(model, card.shape[0], mean, std)


def prepend_normalisation(network: nn.Module, channels: int, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Put a normalisation before a model, so that the result takes images in [0,1]."""
    for name, values in (("input_mean", mean), ("input_std", std)):
        require(len(values) in (1, channels), name, f"one number, or {channels}", values)
    require(min(std) > 0, "input_std", "> 0", std)
    per_channel = [tuple(values) * (channels // len(values)) for values in (mean, std)]
    return nn.Sequential(Normalize(*per_channel), network).eval()
