"""Anybody's weights: a state dict that was saved elsewhere, put into a model that is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from easycoreset.errors import UsageError, require
from easycoreset.models import GreyToRGB, build_bare, is_normalised
from easycoreset.models.card import ModelCard
from easycoreset.models.normalize import Normalize

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
LEVELS = ("state_dict", "model_state_dict", "model")  # under one of which training scripts put it


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
    state = read_state(file)
    network = build_bare(card)
    if {"0.mean", "0.std"} <= set(state) and is_normalised(card.model) and not mean:  # ours
        network = nn.Sequential(Normalize(card.mean, card.std), network)
    bare = network[1] if isinstance(network, nn.Sequential) and isinstance(network[0], GreyToRGB) else network
    target = bare if bare is not network and not any(name.startswith("1.") for name in state) else network
    own = target.state_dict()
    wrong = sorted(k for k in {*own, *state} if k not in own or k not in state or own[k].shape != state[k].shape)
    if wrong:
        raise UsageError(f"{file}: weights of another architecture than {card.model}; {len(wrong)} keys differ: "
                         f"{', '.join(wrong[:5])}")  # fmt: skip
    target.load_state_dict(state)
    return network.eval() if not mean else normalised(network, card.shape[0], mean, std)


def normalised(network: nn.Module, channels: int, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Put a normalisation before a model, so that the whole takes [0,1]."""
    for name, values in (("input_mean", mean), ("input_std", std)):
        require(len(values) in (1, channels), name, f"one number, or {channels}", values)
    require(min(std) > 0, "input_std", "> 0", std)
    wide = [tuple(values) * (channels // len(values)) for values in (mean, std)]
    return nn.Sequential(Normalize(*wide), network).eval()


def read_state(file: Path) -> dict[str, Tensor]:
    """Read a state dict; prefixes of wrappers and one level around it are taken off.

    Raises:
        UsageError: missing, broken, or no state dict.
    """
    try:
        found: Any = load_file(file) if file.suffix == ".safetensors" else _load(file)
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: not a readable weights file: {error}") from None
    levels = [found[level] for level in LEVELS if isinstance(found, dict) and isinstance(found.get(level), dict)]
    inner: Any = levels[0] if levels else found
    if not isinstance(inner, dict) or not inner or not all(isinstance(v, Tensor) for v in inner.values()):
        raise UsageError(f"{file}: holds no state dict (names -> tensors)")
    return {_strip(name): value for name, value in inner.items()}


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a broken or a forbidden pickle raises almost anything
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"{file}: not readable as weights alone (weights_only): {said}") from None


def _strip(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name
