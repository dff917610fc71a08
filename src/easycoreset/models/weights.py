"""Read weights that other programs saved: find the state dict that fits a model, whatever else the file holds."""

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from easycoreset.data_specs import split_weights_path
from easycoreset.errors import UsageError, quote, shorten

MAX_DEPTH = 4  # levels of nested dictionaries that are searched for weights
BATCH_COUNTER = "num_batches_tracked"  # of batch norm; older files lack it
MAX_STAND_INS = 200  # classes of other objects that a file may hold
# torch's message about a class: "... GLOBAL package.Class was not an allowed global by default ..."
FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+) (\w+)")
State = dict[str, Tensor]


class Placeholder:
    """Stands in for any other object in the file: nothing of its class is imported, built or kept."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


def read_state(path: Path, targets: Mapping[str, Mapping[str, Tensor]], model_name: str) -> tuple[str, State]:
    """Read the weights that fit one of several models, by names and shapes.

    A prefix that all names share (`module.`, `model.`) is removed; batch norm's counters may be missing.

    Args:
        path: a file (safetensors, or what `torch.load(weights_only=True)` reads), or FILE:KEY where it holds several.
        targets: name -> the state dict of a model that the weights may belong to, likeliest first.
        model_name: name of the model, for messages.

    Raises:
        UsageError: no weights, several that fit, or none that fits (the message names the keys that differ).
    """
    file, key = split_weights_path(path)
    states = read_states(file)
    if key is not None:
        if key not in states:
            raise UsageError(f"{file}: holds no weights called {quote(key)}; it holds {', '.join(map(quote, states))}")
        states = {key: states[key]}
    matches = {name: best_match(state, targets) for name, state in states.items()}
    exact_matches = {name: match for name, match in matches.items() if not match[2]}  # without differing keys
    if len(exact_matches) > 1 and not _all_equal([match[1] for match in exact_matches.values()]):
        raise UsageError(
            f"{file}: holds several weights that fit, {', '.join(map(quote, exact_matches))}: name one, as "
            f"{file}:{next(iter(exact_matches))}"
        )
    if exact_matches:
        target, state, _ = next(iter(exact_matches.values()))
        return target, state
    _, _, differing = min(matches.values(), key=lambda match: len(match[2]))
    raise UsageError(f"{file}: weights of another architecture than {model_name}; {describe_differences(differing)}")


def best_match(state: State, targets: Mapping[str, Mapping[str, Tensor]]) -> tuple[str, State, list[str]]:
    """Find the target that a state dict fits best; also the state dict without prefix, and the keys that differ."""
    candidates: list[tuple[str, State, list[str]]] = []
    for stripped in strip_prefixes(state):
        candidates += [(name, stripped, differing_keys(stripped, expected)) for name, expected in targets.items()]
    return min(candidates, key=lambda candidate: len(candidate[2]))


def differing_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The names that are in only one of two state dicts, or differ in shape."""
    return sorted(
        name
        for name in {*expected, *state}
        if (name not in state and not name.endswith(BATCH_COUNTER))
        or (name in state and name not in expected)
        or (name in state and getattr(expected[name], "shape", None) != state[name].shape)
    )


def describe_differences(names: Sequence[str]) -> str:
    """How many keys differ, and the first of them."""
    return f"{len(names)} keys differ: {shorten(', '.join(names[:5]), 400)}"


def strip_prefixes(state: State) -> Iterator[State]:
    """Yield a state dict, then the same without each prefix that all its names share."""
    while True:
        yield state
        prefixes = {name.partition(".")[0] for name in state}
        if len(prefixes) != 1 or not all("." in name for name in state):
            return
        state = {name.partition(".")[2]: value for name, value in state.items()}


def read_states(file: Path) -> dict[str, State]:
    """The state dicts in a file, by the keys that lead to them, joined by dots ("" for the whole file).

    Raises:
        UsageError: missing, unreadable, another kind of file, or no state dict in it.
    """
    _check_file_kind(file)
    try:
        content: Any = load_file(file) if file.suffix == ".safetensors" else _load_pickle(file)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file}: not a readable weights file: {shorten(str(error), 200)}") from None
    states = dict(_find_states(content, (), 0))
    if not states and _holds_objects(content):
        raise UsageError(
            f"{file}: not readable as weights alone (weights_only): it holds a whole model or other "
            "objects; save its state_dict() instead"
        )
    if not states:
        raise UsageError(f"{file}: holds no state dict (names -> tensors)")
    return states


def _holds_objects(value: Any) -> bool:
    return isinstance(value, Placeholder) or (
        isinstance(value, dict)
        and any(isinstance(item, Placeholder) for item in cast("dict[Any, Any]", value).values())
    )


def _find_states(value: Any, keys: tuple[str, ...], depth: int) -> Iterator[tuple[str, State]]:
    if not isinstance(value, dict) or depth > MAX_DEPTH:
        return
    mapping = cast("dict[Any, Any]", value)
    state = {name: item for name, item in mapping.items() if isinstance(name, str) and isinstance(item, Tensor)}
    if state:
        yield ".".join(keys), state
    for name, item in mapping.items():
        if isinstance(name, str):
            yield from _find_states(item, (*keys, name), depth + 1)


def _all_equal(states: list[State]) -> bool:
    first = states[0]
    return all(
        set(other) == set(first) and all(torch.equal(first[name], other[name]) for name in first)
        for other in states[1:]
    )


def _check_file_kind(file: Path) -> None:
    """Refuse a file that is clearly not a weights file; the message says what kind of file it is."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(200).lstrip().lower()
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file") from None
    except OSError as error:
        raise UsageError(f"{file}: not a readable weights file: {error.strerror}") from None
    if not start:
        raise UsageError(f"{file}: is empty")
    if start.startswith(b"version https://git-lfs"):
        raise UsageError(f"{file}: is a pointer of Git LFS: fetch the weights themselves (git lfs pull)")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UsageError(f"{file}: is a web page, not weights: its download failed")


def _load_pickle(file: Path) -> Any:
    """Load with `weights_only`; stand-ins replace objects of classes that it forbids."""
    try:
        class_names = set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # the older format, or a corrupt file
        class_names = set[str]()
    dict_like = set[str]()  # classes whose objects are filled item by item, as a dict
    while True:
        try:
            return _load_with_stand_ins(file, class_names, dict_like)
        except Exception as error:  # a corrupt or forbidden pickle raises almost anything
            message = str(error)
        unknown = FORBIDDEN_GLOBAL.search(message)
        if (
            unknown is not None
            and unknown[1] not in class_names
            and unknown[2] == "was"
            and len(class_names) < MAX_STAND_INS
        ):
            class_names.add(unknown[1])
        elif "SETITEM" in message and len(dict_like) < len(class_names):
            dict_like = next(
                ({name} for name in sorted(class_names) if _can_load(file, class_names, {name})), class_names
            )
        else:
            reason = f"it holds {quote(unknown[1])}" if unknown else "not a file that torch.save wrote, or corrupt"
            raise UsageError(f"{file}: not readable as weights alone (weights_only): {reason}")


def _load_with_stand_ins(file: Path, class_names: set[str], dict_like: set[str]) -> Any:
    stand_ins = [
        (OrderedDict if name in dict_like else type("Placeholder", (Placeholder,), {}), name)
        for name in sorted(class_names)
    ]
    with warnings.catch_warnings(), torch.serialization.safe_globals(cast("Any", stand_ins)):
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def _can_load(file: Path, class_names: set[str], dict_like: set[str]) -> bool:
    try:
        _load_with_stand_ins(file, class_names, dict_like)
    except Exception:
        return False
    return True
