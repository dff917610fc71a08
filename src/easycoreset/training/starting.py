"""Weights that training starts from: a trained model's, a file of anybody's, or published ones."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.errors import EasycoresetWarning, UsageError, quote, require
from easycoreset.models import GreyToRGB, build_model, is_normalised
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.foreign import read_state
from easycoreset.models.pretrained import published_state

PRETRAINED = "pretrained"
NORMALISATION = ("0.mean", "0.std")


@dataclass(frozen=True)
class Start:
    """Weights that a model begins with.

    Attributes:
        state: of the whole model, by name; what is not there stays as it was initialised.
        digest: of them.
        mean: of the normalisation that came with them, a number a channel; () where the data's own stays.
        std: likewise.
    """

    state: dict[str, Tensor]
    digest: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def load(self, network: nn.Module) -> None:
        """Put them into a model."""
        network.load_state_dict(self.state, strict=False)


def model_of(init: str | None) -> str | None:
    """The model that a trained model's folder names, which is taken where none was given; not a user's own factory."""
    if init in (None, PRETRAINED) or not Path(init).is_dir():
        return None
    model = read_card(Path(init)).model
    return model if is_normalised(model) else None


def read_start(init: str, card: ModelCard) -> Start:
    """Read the weights that `init` spells, for the model of a card.

    Args:
        init: pretrained, a trained model's folder, or a file with a state dict.
        card: of the model that is to be trained.

    Raises:
        UsageError: nothing there, or weights of another architecture or number of classes.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)  # it is said where the model is built to be trained
        network = build_model(card)
    state = published_state(card) if init == PRETRAINED else _read(Path(init), card)
    placed = _place(state, network, init, card)
    mean, std = (tuple(placed[name].flatten().tolist()) if name in placed else () for name in NORMALISATION)
    return Start(placed, _digest(placed), mean, std)


def _read(path: Path, card: ModelCard) -> dict[str, Tensor]:
    require(path.exists(), "init", f"{PRETRAINED}, a trained model's folder, or a file of weights", str(path))
    if path.is_dir():
        _check_card(path, card)
    try:
        return read_state(path / "model.safetensors" if path.is_dir() else path)
    except UsageError as error:
        raise UsageError(f"init: {error}") from None


def _check_card(folder: Path, card: ModelCard) -> None:
    """Refuse a folder that holds another model, or one of other classes; say where these only have other names."""
    theirs = read_card(folder)
    if theirs.model != card.model:
        raise UsageError(f"init: {folder} holds the model {quote(theirs.model)}, not {quote(card.model)} (--model)")
    if len(theirs.class_names) != len(card.class_names):
        raise UsageError(_other_classes(folder, len(theirs.class_names), len(card.class_names)))
    if theirs.class_names != card.class_names:
        log.info("init: the classes of %s have other names than those of the data", folder)


def _other_classes(init: str | Path, theirs: int, own: int) -> str:
    return f"init: the weights in {init} are of {theirs} classes; the data have {own}"


def _place(state: dict[str, Tensor], network: nn.Module, init: str, card: ModelCard) -> dict[str, Tensor]:
    """Name the weights as they are in the whole model; of published ones the head may be missing."""
    own, prefix, classes = network.state_dict(), "", len(card.class_names)
    if is_normalised(card.model) and not set(NORMALISATION) <= set(state):  # of the bare network, which ours wraps
        inner = network[1] if isinstance(network, nn.Sequential) else network
        wrapped = isinstance(inner, nn.Sequential) and isinstance(inner[0], GreyToRGB)
        prefix = "1.1." if wrapped and not any(name.startswith("1.") for name in state) else "1."
        own = {name: value for name, value in own.items() if name not in NORMALISATION}
    placed = {prefix + name: value for name, value in state.items()}
    differ = [name for name in placed if name in own and own[name].shape != placed[name].shape]
    strange = [name for name in placed if name not in own]
    missing = [name for name in own if name not in placed]
    if init == PRETRAINED:
        missing = [name for name in missing if own[name].shape[:1] != (classes,)]
    if not strange and not missing:
        found = {placed[name].shape[:1] for name in differ}
        rest = all(own[n].shape[:1] == (classes,) and own[n].shape[1:] == placed[n].shape[1:] for n in differ)
        if len(found) == 1 and rest:
            raise UsageError(_other_classes(init, next(iter(found))[0], classes))
    wrong = sorted([*differ, *strange, *missing])
    if wrong:
        raise UsageError(f"init: {init}: weights of another architecture than {card.model}; {len(wrong)} keys differ: "
                         f"{', '.join(wrong[:5])}")  # fmt: skip
    return placed


def _digest(state: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous().reshape(-1)
        whole.update(f"{name} {value.dtype} {tuple(state[name].shape)}".encode())
        whole.update(value.view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]
