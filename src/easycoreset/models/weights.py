"""Anybody's weights in a file: the one mapping of names to tensors that fits a model, whatever is around it."""

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from easycoreset.errors import UsageError, quote, shorten
from easycoreset.spelling import split_place

DEEPEST = 4  # dictionaries in one another in which weights are looked for
COUNTER = "num_batches_tracked"  # of batch norm, which older files lack
STRANGERS = 200  # kinds of objects that may lie beside the weights
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+) (\w+)")
State = dict[str, Tensor]


class Beside:
    """Stands for whatever lies beside the weights: nothing of it is imported, made or kept."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Beside":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


def read_state(path: Path, targets: Mapping[str, Mapping[str, Tensor]], what: str) -> tuple[str, State]:
    """Read the weights that fit one of several models, by their names and shapes.

    A prefix that all names share is taken off (`module.`, `model.`), batch norm's counters may be missing.

    Args:
        path: a file (safetensors, or what `torch.load(weights_only=True)` reads), or FILE:KEY where it holds several.
        targets: name -> the state dict of a model that the weights may be of, the likeliest first.
        what: what they should be of, for messages.

    Raises:
        UsageError: no weights, several that fit, or none that fit (which keys differ).
    """
    file, key = split_place(path)
    states = read_states(file)
    if key is not None:
        if key not in states:
            raise UsageError(f"{file}: holds no weights called {quote(key)}, but {', '.join(map(quote, states))}")
        states = {key: states[key]}
    fits = {place: fit(state, targets) for place, state in states.items()}
    good = {place: found for place, found in fits.items() if not found[2]}
    if len(good) > 1 and not _all_equal([found[1] for found in good.values()]):
        raise UsageError(
            f"{file}: holds several weights that fit, {', '.join(map(quote, good))}: name one, as "
            f"{file}:{next(iter(good))}"
        )
    if good:
        target, state, _ = next(iter(good.values()))
        return target, state
    _, _, wrong = min(fits.values(), key=lambda found: len(found[2]))
    raise UsageError(
        f"{file}: weights of another architecture than {what}; {len(wrong)} keys differ: "
        f"{shorten(', '.join(wrong[:5]), 400)}"
    )


def fit(state: State, targets: Mapping[str, Mapping[str, Tensor]]) -> tuple[str, State, list[str]]:
    """The target that a state dict fits best, the state dict as it fits, and which keys differ."""
    found: list[tuple[str, State, list[str]]] = []
    for stripped in strip_prefixes(state):
        found += [(name, stripped, differences(stripped, own)) for name, own in targets.items()]
    return min(found, key=lambda one: len(one[2]))


def differences(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """The names that only one of two state dicts has, or with another shape."""
    return sorted(
        name
        for name in {*own, *state}
        if (name not in state and not name.endswith(COUNTER))
        or (name in state and name not in own)
        or (name in state and getattr(own[name], "shape", None) != state[name].shape)
    )


def strip_prefixes(state: State) -> Iterator[State]:
    """A state dict, and without every prefix that all its names share."""
    while True:
        yield state
        heads = {name.partition(".")[0] for name in state}
        if len(heads) != 1 or not all("." in name for name in state):
            return
        state = {name.partition(".")[2]: value for name, value in state.items()}


def read_states(file: Path) -> dict[str, State]:
    """The mappings of names to tensors in a file, by the keys that lead to them (empty for the file itself).

    Raises:
        UsageError: missing, broken, another kind of file, or none in it.
    """
    _refuse_others(file)
    try:
        found: Any = load_file(file) if file.suffix == ".safetensors" else _load(file)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: not a readable weights file: {shorten(str(error), 200)}") from None
    states = dict(_find(found, (), 0))
    if not states and _holds_objects(found):
        raise UsageError(
            f"{file}: not readable as weights alone (weights_only): it holds a whole model or other "
            "objects; save its state_dict() instead"
        )
    if not states:
        raise UsageError(f"{file}: holds no state dict (names -> tensors)")
    return states


def _holds_objects(value: Any) -> bool:
    return isinstance(value, Beside) or (
        isinstance(value, dict) and any(isinstance(item, Beside) for item in cast("dict[Any, Any]", value).values())
    )


def _find(value: Any, keys: tuple[str, ...], depth: int) -> Iterator[tuple[str, State]]:
    if not isinstance(value, dict) or depth > DEEPEST:
        return
    held = cast("dict[Any, Any]", value)
    state = {name: item for name, item in held.items() if isinstance(name, str) and isinstance(item, Tensor)}
    if state:
        yield ".".join(keys), state
    for name, item in held.items():
        if isinstance(name, str):
            yield from _find(item, (*keys, name), depth + 1)


def _all_equal(states: list[State]) -> bool:
    first = states[0]
    return all(
        set(other) == set(first) and all(torch.equal(first[name], other[name]) for name in first)
        for other in states[1:]
    )


def _refuse_others(file: Path) -> None:
    """Say what a file is that is no file of weights."""
    try:
        with open(file, "rb") as opened:
            start = opened.read(200).lstrip().lower()
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file") from None
    except OSError as error:
        raise UsageError(f"{file}: not a readable weights file: {error.strerror}") from None
    if not start:
        raise UsageError(f"{file}: is empty")
    if start.startswith(b"version https://git-lfs"):
        raise UsageError(f"{file}: is a pointer of Git LFS: fetch the weights themselves (git lfs pull)")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UsageError(f"{file}: is a page of the web, not weights: its download failed")


def _load(file: Path) -> Any:
    """Read by `weights_only`; objects of any other class beside the weights are left where they are."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # the older format, or a broken file
        names = set[str]()
    filled = set[str]()  # those that are filled like dictionaries
    while True:
        try:
            return _load_beside(file, names, filled)
        except Exception as error:  # a broken or a forbidden pickle raises almost anything
            said = str(error)
        unknown = FORBIDDEN.search(said)
        if unknown is not None and unknown[1] not in names and unknown[2] == "was" and len(names) < STRANGERS:
            names.add(unknown[1])
        elif "SETITEM" in said and len(filled) < len(names):
            filled = next(({name} for name in sorted(names) if _loads(file, names, {name})), names)
        else:
            reason = f"it holds {quote(unknown[1])}" if unknown else "not a file that torch.save wrote, or a broken one"
            raise UsageError(f"{file}: not readable as weights alone (weights_only): {reason}")


def _load_beside(file: Path, names: set[str], filled: set[str]) -> Any:
    stand_ins = [(OrderedDict if name in filled else type("Beside", (Beside,), {}), name) for name in sorted(names)]
    with warnings.catch_warnings(), torch.serialization.safe_globals(cast("Any", stand_ins)):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _loads(file: Path, names: set[str], filled: set[str]) -> bool:
    try:
        _load_beside(file, names, filled)
    except Exception:
        return False
    return True
