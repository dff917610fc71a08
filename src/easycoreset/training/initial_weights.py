"""Initial weights: those of a trained model's folder, of any file, or published ones."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data_specs import split_weights_path
from easycoreset.errors import EasycoresetWarning, UsageError, quote, require
from easycoreset.models import GreyToRGB, adds_normalisation, build_model
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.pretrained import load_published_state
from easycoreset.models.weights import best_match, describe_differences, differing_keys, read_state, read_states

PRETRAINED = "pretrained"
NORMALISATION = ("0.mean", "0.std")


@dataclass(frozen=True)
class InitialWeights:
    """The initial weights of a model.

    Attributes:
        state: name -> tensor, for the whole model; missing entries stay randomly initialised.
        digest: hash of the weights.
        mean: mean per channel of the normalisation in the weights; () to keep that of the data.
        std: its standard deviation, likewise.
    """

    state: dict[str, Tensor]
    digest: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def load(self, network: nn.Module) -> None:
        """Copy the weights into a model."""
        network.load_state_dict(self.state, strict=False)


def model_name_in(init: str | None) -> str | None:
    """The model name in a trained model's folder, the default of `--model`; None for a user's factory."""
    if init in (None, PRETRAINED) or not Path(init).is_dir():
        return None
    model = read_card(Path(init)).model
    return model if adds_normalisation(model) else None


def read_initial_weights(init: str, card: ModelCard) -> InitialWeights:
    """Read the weights that `init` names, for the model of a card.

    Args:
        init: pretrained, a trained model's folder, or a file with a state dict.
        card: the card of the model to be trained.

    Raises:
        UsageError: there are no weights, or they have another architecture or number of classes.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)  # shown when the model is built for training
        network = build_model(card)
    targets = _target_states(network, card)
    state = (
        _name_published(load_published_state(card), targets, init, card)
        if init == PRETRAINED
        else _read_file(Path(init), targets, card)
    )
    mean, std = (tuple(state[name].flatten().tolist()) if name in state else () for name in NORMALISATION)
    return InitialWeights(state, _digest(state), mean, std)


def _target_states(network: nn.Module, card: ModelCard) -> dict[str, dict[str, Tensor]]:
    """The modules that weights may belong to, as prefix in the whole model -> expected state dict."""
    whole = network.state_dict()
    targets = {"": whole}
    if adds_normalisation(card.model):
        inner = network[1] if isinstance(network, nn.Sequential) else network
        has_grey_to_rgb = isinstance(inner, nn.Sequential) and isinstance(inner[0], GreyToRGB)
        for prefix in ("1.", *(["1.1."] if has_grey_to_rgb else [])):
            targets[prefix] = {
                name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)
            }
    return targets


def _read_file(path: Path, targets: dict[str, dict[str, Tensor]], card: ModelCard) -> dict[str, Tensor]:
    file_path, _ = split_weights_path(path)
    require(file_path.exists(), "init", f"{PRETRAINED}, a trained model's folder, or a file of weights", str(path))
    if path.is_dir():
        _check_card(path, card)
    file = path / "model.safetensors" if path.is_dir() else path
    try:
        prefix, state = read_state(file, targets, card.model)
    except UsageError as error:
        classes = len(card.class_names)
        if (
            split_weights_path(file)[1] is None
            and (head_classes := _count_head_classes(file, targets, classes)) is not None
        ):
            raise UsageError(_class_count_error(str(path), head_classes, classes)) from None
        raise UsageError(f"init: {error}") from None
    return {prefix + name: value for name, value in state.items()}


def _count_head_classes(file: Path, targets: dict[str, dict[str, Tensor]], classes: int) -> int | None:
    """The number of classes of weights that differ from the model only in their head, else None."""
    try:
        states = read_states(file)
    except UsageError:
        return None
    for state in states.values():
        prefix, candidate, mismatched = best_match(state, targets)
        shapes = {name: (targets[prefix].get(name), candidate.get(name)) for name in mismatched}
        if mismatched and all(
            expected is not None
            and actual is not None
            and expected.shape[:1] == (classes,)
            and expected.shape[1:] == actual.shape[1:]
            for expected, actual in shapes.values()
        ):
            heads = {candidate[name].shape[0] for name in mismatched}
            return heads.pop() if len(heads) == 1 else None
    return None


def _check_card(folder: Path, card: ModelCard) -> None:
    """Raise if a folder holds another model or number of classes; log if only the class names differ."""
    trained = read_card(folder)
    if trained.model != card.model:
        raise UsageError(f"init: {folder} holds the model {quote(trained.model)}, not {quote(card.model)} (--model)")
    if len(trained.class_names) != len(card.class_names):
        raise UsageError(_class_count_error(folder, len(trained.class_names), len(card.class_names)))
    if trained.class_names != card.class_names:
        log.info("init: the class names of %s differ from those of the data", folder)


def _class_count_error(init: str | Path, weight_classes: int, data_classes: int) -> str:
    return f"init: the weights in {init} have {weight_classes} classes; the data have {data_classes}"


def _name_published(
    state: dict[str, Tensor], targets: dict[str, dict[str, Tensor]], init: str, card: ModelCard
) -> dict[str, Tensor]:
    """Rename published weights to their names in the whole model; their head may be missing."""
    classes = len(card.class_names)
    closest = list[str]()
    for prefix, names in targets.items():
        absent = {name for name, value in names.items() if name not in state and value.shape[:1] == (classes,)}
        mismatched = [name for name in differing_keys(state, names) if name not in absent]
        if not mismatched:
            return {prefix + name: value for name, value in state.items()}
        closest = mismatched if not closest or len(mismatched) < len(closest) else closest
    raise UsageError(
        f"init: {init}: weights of another architecture than {card.model}; {describe_differences(closest)}"
    )


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous().reshape(-1)
        digest.update(f"{name} {value.dtype} {tuple(state[name].shape)}".encode())
        digest.update(value.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
