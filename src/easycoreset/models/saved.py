"""Trained models on disk: safetensors for the weights, JSON for how to build what they belong to."""

import warnings
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from easycoreset.errors import EasycoresetWarning, UsageError, quote
from easycoreset.files import write_atomic
from easycoreset.models import build_model, is_normalised
from easycoreset.models.card import ModelCard, read_card, write_card


def save_model(folder: Path, model: nn.Module, card: ModelCard) -> None:
    """Write `model.safetensors` and `model.json`."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomic(folder / "model.safetensors", lambda path: save_file(state, path))
    write_card(folder, card)


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
