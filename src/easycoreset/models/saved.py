"""Trained models on disk: safetensors for the weights, JSON for the card from which the model is built."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from easycoreset.errors import EasycoresetWarning, UsageError, quote
from easycoreset.files import write_atomic
from easycoreset.models import build_model, user_factory
from easycoreset.models.card import ModelCard, read_card, write_card
from easycoreset.models.in_memory import CARD, name_model
from easycoreset.models.weights import describe_differences, differing_keys
from easycoreset.python_objects import is_object_spec, kept_objects


def save_model(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write `model.safetensors` and `model.json`."""
    state = savable_state(model)
    write_atomic(folder / "model.safetensors", lambda path: save_file(state, path))
    write_card(folder, card)


def mark_with_card(network: nn.Module, card: ModelCard) -> nn.Module:
    """Attach its card to a module, for a later evaluation of the module itself."""
    setattr(network, CARD, card)
    return network


def savable_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict on the CPU, each tensor in separate memory: layers may be shared or tied.

    Raises:
        UsageError: a value of the state dict is no tensor.
    """
    state = model.state_dict()
    not_tensors = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if not_tensors:
        raise UsageError(
            f"model must have a state dict that holds only tensors; {quote(not_tensors[0])} is not a tensor"
        )
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def check_savable(model: nn.Module, card: ModelCard) -> None:
    """Check in memory that a model can be saved and loaded again, before it is trained for hours.

    Raises:
        UsageError: it cannot be saved or loaded, or is not the same afterwards.
    """
    before = savable_state(model)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)
        rebuilt = build_model(card)
    try:
        rebuilt.load_state_dict(load(save(before)))
        after = savable_state(rebuilt)
        differing = [name for name in before if name not in after or not _same(before[name], after[name])]
    except Exception as error:  # a user's model may raise anything
        reason = " ".join(str(error).split())
        raise UsageError(f"model {quote(card.model)} cannot be loaded after it is saved: {reason}") from None
    if differing:
        raise UsageError(f"model {quote(card.model)} differs after it is saved and loaded: {quote(differing[0])}")


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def load_model(folder: str | Path, model: Any = None) -> nn.Module:
    """Load a trained model, as `score` and `train` wrote it, in eval mode on the CPU.

    Args:
        folder: holds `model.json` and `model.safetensors`.
        model: needed if `model.json` names a user's `package.module:factory`: the same name, because the factory is
            imported only if it is repeated here. For a model that was given as an object, an object of the same kind:
            a module, or a class or function that makes one. Otherwise the name in `model.json`, or None.

    Raises:
        UsageError: files are missing or unreadable, the weights are of another architecture (the message names the
            keys that differ), or `model` is another name or a missing factory.
    """
    folder = Path(folder)
    card = read_card(folder)
    if model is not None and not isinstance(model, str):
        model = name_model(model)
    if user_factory(card.model) and is_object_spec(model):
        card = dataclasses.replace(card, model=model)
    model = card.model if model is None and card.model in kept_objects() else model
    if user_factory(card.model) and model != card.model:
        raise UsageError(
            f"{folder / 'model.json'} names the factory {quote(card.model)}: repeat it as model to have it imported"
        )
    if model not in (None, card.model):
        raise UsageError(f"model must be {quote(card.model)}, as {folder / 'model.json'} says; got {quote(model)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)
        network = build_model(card)
    load_weights(network, folder / "model.safetensors")
    return mark_with_card(network, card).eval()


def load_weights(network: nn.Module, file: Path) -> None:
    """Load a safetensors file into `network`.

    Raises:
        UsageError: the file is missing, unreadable, or of another architecture.
    """
    try:
        state = load_file(file)
    except FileNotFoundError:
        discarded = " (its plan discarded the weights: run it again without --discard-weights)"
        hint = discarded if (file.parent / "step.json").exists() else ""
        raise UsageError(f"{file}: no such file{hint}") from None
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: not a readable safetensors file: {error}") from None
    if differing := differing_keys(state, network.state_dict()):
        raise UsageError(f"{file}: weights of another architecture; {describe_differences(differing)}")
    network.load_state_dict(state, strict=False)
