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
from easycoreset.models.pretrained import published_state
from easycoreset.models.weights import differences, fit, read_state, read_states
from easycoreset.spelling import split_place

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
    own = _placings(network, card)
    placed = _place(published_state(card), own, init, card) if init == PRETRAINED else _read(Path(init), own, card)
    mean, std = (tuple(placed[name].flatten().tolist()) if name in placed else () for name in NORMALISATION)
    return Start(placed, _digest(placed), mean, std)


def _placings(network: nn.Module, card: ModelCard) -> dict[str, dict[str, Tensor]]:
    """What weights may be of, by the prefix that their names have in the whole model: that itself, or a part of it."""
    whole = network.state_dict()
    found = {"": whole}
    if is_normalised(card.model):
        inner = network[1] if isinstance(network, nn.Sequential) else network
        wrapped = isinstance(inner, nn.Sequential) and isinstance(inner[0], GreyToRGB)
        for prefix in ("1.", *(["1.1."] if wrapped else [])):
            found[prefix] = {
                name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)
            }
    return found


def _read(path: Path, own: dict[str, dict[str, Tensor]], card: ModelCard) -> dict[str, Tensor]:
    place, _ = split_place(path)
    require(place.exists(), "init", f"{PRETRAINED}, a trained model's folder, or a file of weights", str(path))
    if path.is_dir():
        _check_card(path, card)
    file = path / "model.safetensors" if path.is_dir() else path
    try:
        prefix, state = read_state(file, own, card.model)
    except UsageError as error:
        classes = len(card.class_names)
        if split_place(file)[1] is None and (theirs := _head_of(file, own, classes)) is not None:
            raise UsageError(_other_classes(str(path), theirs, classes)) from None
        raise UsageError(f"init: {error}") from None
    return {prefix + name: value for name, value in state.items()}


def _head_of(file: Path, own: dict[str, dict[str, Tensor]], classes: int) -> int | None:
    """The number of classes that weights are of, where only their head has another."""
    try:
        states = read_states(file)
    except UsageError:
        return None
    for state in states.values():
        prefix, found, wrong = fit(state, own)
        shapes = {name: (own[prefix].get(name), found.get(name)) for name in wrong}
        if wrong and all(
            a is not None and b is not None and a.shape[:1] == (classes,) and a.shape[1:] == b.shape[1:]
            for a, b in shapes.values()
        ):
            heads = {found[name].shape[0] for name in wrong}
            return heads.pop() if len(heads) == 1 else None
    return None


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


def _place(
    state: dict[str, Tensor], own: dict[str, dict[str, Tensor]], init: str, card: ModelCard
) -> dict[str, Tensor]:
    """Name published weights as they are in the whole model; their head may be missing."""
    classes = len(card.class_names)
    least = list[str]()
    for prefix, names in own.items():
        absent = {name for name, value in names.items() if name not in state and value.shape[:1] == (classes,)}
        wrong = [name for name in differences(state, names) if name not in absent]
        if not wrong:
            return {prefix + name: value for name, value in state.items()}
        least = wrong if not least or len(wrong) < len(least) else least
    raise UsageError(
        f"init: {init}: weights of another architecture than {card.model}; {len(least)} keys differ: "
        f"{', '.join(least[:5])}"
    )


def _digest(state: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous().reshape(-1)
        whole.update(f"{name} {value.dtype} {tuple(state[name].shape)}".encode())
        whole.update(value.view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()[:16]
