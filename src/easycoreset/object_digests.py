"""Digests of Python objects by their content: functions and classes by their code, arrays by their bytes."""

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

Hash = Any  # hashlib keeps its type private


def digest_object(value: Any) -> str:
    """The SHA-256 of an object's content, as hexadecimal digits.

    A function counts with its defaults, what it closes over, and the functions and classes that it names; what is in
    installed packages counts by its name. An object counts with its class and its attributes. What no rule covers
    counts by its `repr`.

    >>> digest_object(lambda x: x + 1) == digest_object(lambda x: x + 1), digest_object([1]) == digest_object([2])
    (True, False)
    """
    state = hashlib.sha256()
    _add(state, value, set())
    return state.hexdigest()


def _add(state: Hash, value: Any, seen: set[int]) -> None:
    if isinstance(value, str | bytes | int | float | complex | bool | None | type(Ellipsis)):
        _note(state, type(value).__name__, repr(value))
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, types.CodeType):
        _note(state, "code", value.co_code.hex(), *value.co_names, *value.co_varnames)
        _add_all(state, value.co_consts, seen)
    elif isinstance(value, types.ModuleType):
        file = getattr(value, "__file__", None)
        source = "" if file is None or _is_installed_file(file) else Path(file).read_bytes().hex()
        _note(state, "module", value.__name__, source)
    elif isinstance(value, type) or inspect.isroutine(value):
        _add_definition(state, value, seen)
    elif isinstance(value, functools.partial):
        _add_all(state, ("partial", value.func, value.args, value.keywords), seen)
    elif isinstance(value, Mapping):
        pairs = [part for pair in cast("Mapping[Any, Any]", value).items() for part in pair]
        _add_all(state, [type(value).__name__, *pairs], seen)
    elif isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        _add_all(state, [type(value).__name__, *cast("list[Any]", items)], seen)
    elif hasattr(value, "__array__"):
        _add_array(state, value)
    elif hasattr(value, "__dict__"):
        _add_all(state, (type(value), vars(value)), seen)
    else:
        _note(state, type(value).__name__, repr(value))


def _add_all(state: Hash, values: Any, seen: set[int]) -> None:
    for value in values:
        _add(state, value, seen)


def _add_array(state: Hash, value: Any) -> None:
    import numpy as np

    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    _note(state, "array", str(array.dtype), str(array.shape))
    state.update(repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).data)


def _add_definition(state: Hash, value: Any, seen: set[int]) -> None:
    """A function or a class: by its code, unless it is installed."""
    _note(state, "defined", getattr(value, "__qualname__", type(value).__name__))
    if is_installed(value):
        _note(state, str(getattr(value, "__module__", "")))
    elif isinstance(value, type):
        own = {name: part for name, part in vars(value).items() if not name.startswith("__") or callable(part)}
        _add_all(state, (value.__bases__, own), seen)
    elif inspect.ismethod(value):
        _add_all(state, (value.__func__, value.__self__), seen)
    elif isinstance(value, types.FunctionType):
        _add_all(state, (value.__code__, value.__defaults__, value.__kwdefaults__), seen)
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        named = [value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__]
        _add_all(state, cells + named, seen)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - of a name that is not assigned yet, it raises
    except ValueError:
        return False
    return True


def is_installed(value: Any) -> bool:
    """Whether a function or a class is Python's own or of an installed package."""
    module = sys.modules.get(str(getattr(value, "__module__", "")))
    if module is None:
        return getattr(value, "__module__", None) is None
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ != "__main__"
    return _is_installed_file(file)


def _is_installed_file(file: str) -> bool:
    return any(folder in Path(file).parents for folder in _installed_folders())


@functools.cache
def _installed_folders() -> set[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return {Path(sysconfig.get_path(name)) for name in names} | {Path(__file__).parent}


def _note(state: Hash, *texts: str) -> None:
    for text in texts:
        state.update(f"{len(text)}:{text};".encode())
