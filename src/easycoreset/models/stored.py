"""Models in memory, written into the temporary folder of this process: a folder with a card, or a file of weights."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from easycoreset.errors import UsageError, require
from easycoreset.files import write_atomic
from easycoreset.models import user_factory
from easycoreset.models.card import ModelCard
from easycoreset.models.in_memory import CARD, name_model, unwrap
from easycoreset.models.saved import save_model
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import stored_file


def store_model(module: nn.Module) -> dict[str, Any]:
    """Write a module into the temporary folder of this process; returns the options `weights` and `model` for it,
    and the fingerprint `trained_on` of the training split, empty where it is not known.

    A module that `train` or `load_model` returned is written with its card, so that no facts about it are lost.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"weights must be a path or a module; got {type(module).__name__}")
    network = unwrap(module)
    card: ModelCard | None = getattr(network, CARD, None)
    if card is None:
        return {"weights": _store_weights(network), "model": name_model(network), "trained_on": ""}
    folder = stored_file(f"model-{digest_object([vars(card), network.state_dict()])[:16]}")
    folder.mkdir(exist_ok=True)
    save_model(folder, network, card)
    trained_on = str((card.trained_on or {}).get("fingerprint", ""))
    return {"weights": folder, "trained_on": trained_on} | (
        {} if user_factory(card.model) is None else {"model": name_model(network)}
    )


def store_trained(module: nn.Module) -> Path:
    """Write a module that was trained here into the temporary folder of this process; returns its folder.

    Raises:
        UsageError: its classes are not known.
    """
    folder: Path = store_model(module)["weights"]
    if not folder.is_dir():
        name = type(module).__name__
        raise UsageError(
            "weights must be a folder, or a module that train or load_model returned, whose classes are known; got "
            f"{name}"
        )
    return folder


def store_initial_weights(module: nn.Module) -> str:
    """Write the weights of a module into the temporary folder of this process; returns their path."""
    require(isinstance(module, nn.Module), "init", "pretrained, a path or a module", type(module).__name__)
    return str(store_model(module)["weights"])


def _store_weights(network: nn.Module) -> Path:
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    file = stored_file(f"weights-{digest_object(state)[:16]}.safetensors")
    if not file.exists():
        write_atomic(file, lambda path: save_file(state, path))
    return file
