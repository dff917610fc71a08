"""Trained models on disk: safetensors for the weights, JSON for how to build what they belong to."""

import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from easycoreset.errors import EasycoresetWarning, UsageError, quote
from easycoreset.files import write_atomic
from easycoreset.models import build_model, is_normalised
from easycoreset.models.card import ModelCard, read_card, write_card


def save_model(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write `model.safetensors` and `model.json`."""
    state = savable_state(model)
    write_atomic(folder / "model.safetensors", lambda path: save_file(state, path))
    write_card(folder, card)


def savable_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights, each in memory of its own: layers may be there under several names, or tied.

    Raises:
        UsageError: something in its state dict is no tensor.
    """
    state = model.state_dict()
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise UsageError(f"model must have a state dict of tensors alone, to be saved; {quote(others[0])} is none")
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def check_savable(model: nn.Module, card: ModelCard) -> None:
    """Save a model and load it again, in memory, before it is trained for hours.

    Raises:
        UsageError: it cannot be saved, or not be loaded.
    """
    before = savable_state(model)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)
        fresh = build_model(card)
    try:
        fresh.load_state_dict(load(save(before)))
        after = savable_state(fresh)
        wrong = [name for name in before if name not in after or not _same(before[name], after[name])]
    except Exception as error:  # a user's own model may raise anything
        said = " ".join(str(error).split())
        raise UsageError(f"model {quote(card.model)} cannot be loaded again once it is saved: {said}") from None
    if wrong:
        raise UsageError(f"model {quote(card.model)} is another one once it is saved and loaded: {quote(wrong[0])}")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


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
    if not is_normalised(card.model) and model != card.model:
        raise UsageError(
            f"{folder / 'model.json'} names the factory {quote(card.model)}: repeat it as model to have it imported"
        )
    if model not in (None, card.model):
        raise UsageError(f"model must be {quote(card.model)}, as {folder / 'model.json'} says; got {quote(model)}")
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
