"""Anybody's weights: a state dict that was saved elsewhere, put into a model that is named."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from easycoreset.errors import require
from easycoreset.models import GreyToRGB, build_bare, is_normalised
from easycoreset.models.card import ModelCard
from easycoreset.models.normalize import Normalize
from easycoreset.models.weights import read_state


def load_foreign(file: Path, card: ModelCard, mean: Sequence[float] = (), std: Sequence[float] = ()) -> nn.Module:
    """Build the model that a card names, without our normalisation, and load a foreign state dict into it.

    Args:
        file: safetensors, or anything else that `torch.load(weights_only=True)` reads.
        card: its `model`, `shape` and `class_names`.
        mean: that the model wants subtracted from its input, a number or one a channel; () where it takes [0,1].
        std: that it wants the input divided by, likewise.

    Raises:
        UsageError: a broken file, weights of another architecture (which keys differ), or a wrong mean or std.
    """
    network = build_bare(card)
    bare = network[1] if isinstance(network, nn.Sequential) and isinstance(network[0], GreyToRGB) else network
    targets = {"network": network, "bare": bare}
    if is_normalised(card.model) and not mean:
        targets = {"ours": nn.Sequential(Normalize(card.mean, card.std), network), **targets}
    name, state = read_state(file, {name: target.state_dict() for name, target in targets.items()}, card.model)
    targets[name].load_state_dict(state, strict=False)
    whole = targets["ours"] if name == "ours" else network
    return whole.eval() if not mean else normalised(whole, card.shape[0], mean, std)


def normalised(network: nn.Module, channels: int, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Put a normalisation before a model, so that the whole takes [0,1]."""
    for name, values in (("input_mean", mean), ("input_std", std)):
        require(len(values) in (1, channels), name, f"one number, or {channels}", values)
    require(min(std) > 0, "input_std", "> 0", std)
    wide = [tuple(values) * (channels // len(values)) for values in (mean, std)]
    return nn.Sequential(Normalize(*wide), network).eval()
