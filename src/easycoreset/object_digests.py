"""Digests of Python objects by their content: functions and classes by their code, arrays by their bytes."""

import dis
import functools
import hashlib
import inspect
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from easycoreset.errors import UsageError

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME")  # instructions that read a global
WRAPPED = ("__func__", "__wrapped__", "fget", "fset", "fdel", "func")  # of methods, properties and decorated functions


def digest_object(value: Any) -> str:
    """The SHA-256 of an object's content, as hexadecimal digits; the same in every process.

    The digest of a function covers its code, its defaults, its closure and the globals that it names; functions and
    classes of installed packages are identified by name. The digest of any other object covers its class and its
    attributes, or else its pickle.

    Raises:
        UsageError: an object has no content that could be read.

    >>> digest_object(lambda x: x + 1) == digest_object(lambda x: x + 1), digest_object([1]) == digest_object([2])
    (True, False)
    """
    return _Digests().of(value)


class _Digests:
    """The digests of one object's parts, each computed once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}  # id -> (the object, which keeps its id, and its digest)
        self._active: list[int] = []  # ids of the objects that are being read, for cycles

    def of(self, value: Any) -> str:
        """The digest of a value."""
        if isinstance(value, str | bytes | int | float | complex | bool | None | type(Ellipsis)):
            return _hash([type(value).__name__, repr(value)])
        if id(value) in self._active:
            return _hash(["cycle", str(len(self._active) - self._active.index(id(value)))])
        if id(value) not in self._known:
            self._active.append(id(value))
            try:
                self._known[id(value)] = (value, _hash(self._parts(value)))
            finally:
                self._active.pop()
        return self._known[id(value)][1]

    def all_of(self, values: Any) -> list[str]:
        """The digests of several values."""
        return [self.of(value) for value in values]

    def _parts(self, value: Any) -> list[str]:
        """Texts that identify a value."""
        if isinstance(value, types.CodeType):
            return ["code", value.co_code.hex(), *value.co_varnames, *value.co_names, *self.all_of(value.co_consts)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__, *_module_sources(value)]
        if inspect.ismethod(value):
            return ["method", *self.all_of((value.__func__, value.__self__))]
        if isinstance(value, functools.partial):
            return ["partial", *self.all_of((value.func, value.args, dict(value.keywords)))]
        if isinstance(value, type) or inspect.isroutine(value) or isinstance(value, property) or _is_wrapper(value):
            return self._definition(value)
        if hasattr(value, "__array__"):
            return _array_parts(value)
        return [self.of(type(value)), *self._contents(value), *self._attributes(value)]

    def _definition(self, value: Any) -> list[str]:
        """Texts that identify a function or a class: its code, or its name if it is installed."""
        name = str(getattr(value, "__qualname__", type(value).__name__))
        if _is_installed(value) and not _is_wrapper(value):
            return ["installed", str(getattr(value, "__module__", "")), name]
        parts = ["defined", name]
        if isinstance(value, type):
            own = {n: part for n, part in vars(value).items() if (not n.startswith("__") or callable(part))}
            own.pop("_abc_impl", None)
            return [*parts, *self.all_of(value.__bases__), self.of(own)]
        if isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
            named = [value.__globals__[n] for n in _global_names(value.__code__) if n in value.__globals__]
            defaults = (value.__code__, value.__defaults__, value.__kwdefaults__)
            return [*parts, *self.all_of((*defaults, *cells, *named))]
        return [*parts, *self.all_of(getattr(value, n) for n in WRAPPED if getattr(value, n, None) is not None)]

    def _contents(self, value: Any) -> list[str]:
        """What a container holds, with its length."""
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return ["mapping", *sorted(self.of(key) + self.of(item) for key, item in items)]
        if isinstance(value, set | frozenset):
            return ["set", *sorted(self.all_of(cast("set[Any]", value)))]
        return ["list", *self.all_of(cast("list[Any]", value))] if isinstance(value, list | tuple) else []

    def _attributes(self, value: Any) -> list[str]:
        """Texts that identify the attributes of an object, or its pickle if it has none.

        Raises:
            UsageError: an object without attributes cannot be pickled.
        """
        slots = [n for kind in type(value).__mro__ for n in _slots(kind) if hasattr(value, n)]
        attributes = {n: getattr(value, n) for n in slots} | dict(getattr(value, "__dict__", {}))
        if attributes or isinstance(value, Mapping | set | frozenset | list | tuple) or hasattr(value, "__dict__"):
            return ["attributes", self.of(attributes)] if attributes else []
        try:
            return ["pickled", pickle.dumps(value, 4).hex()]
        except Exception as error:  # pickling calls what users wrote
            name = type(value).__name__
            raise UsageError(f"an object of type {name} has no content that identifies it: {error}") from None


def _hash(parts: list[str]) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(f"{len(part)}:{part};".encode())
    return state.hexdigest()


def _array_parts(value: Any) -> list[str]:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().contiguous()
        kind = f"tensor {value.dtype}"
        value = (
            value.float() if str(value.dtype) == "torch.bfloat16" else value
        )  # NumPy has no bfloat16; nothing is lost
    else:
        kind = "array"
    array = np.asarray(value)
    content = repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
    return [kind, str(array.dtype), str(array.shape), hashlib.sha256(content).hexdigest()]


def _module_sources(module: types.ModuleType) -> Iterator[str]:
    """The sources of a user's module, and of the loaded modules of its package."""
    package = module.__name__.partition(".")[0]
    own = getattr(module, "__file__", None)
    if own is None or _is_in_package(own):
        return
    for name, loaded in sorted(sys.modules.items()):
        file = getattr(loaded, "__file__", None) or ""
        if name.partition(".")[0] == package and file.endswith(".py") and Path(file).is_file():
            yield hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _global_names(code: types.CodeType) -> list[str]:
    """The globals that a function reads, also within the functions that it defines."""
    names = [str(step.argval) for step in dis.get_instructions(code) if step.opname in GLOBALS]
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return list(dict.fromkeys([*names, *(name for part in inner for name in _global_names(part))]))


def _is_wrapper(value: Any) -> bool:
    """Whether a value wraps a function: a static or class method, a property, or a cached function."""
    return not isinstance(value, type) and (
        isinstance(value, staticmethod | classmethod | property | functools.cached_property)
        or (callable(value) and hasattr(value, "__wrapped__"))
    )


def _slots(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    return [slots] if isinstance(slots, str) else [n for n in slots if n not in ("__dict__", "__weakref__")]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - of a name that is not assigned yet, it raises
    except ValueError:
        return False
    return True


def _is_installed(value: Any) -> bool:
    """Whether a function or a class is Python's own or of an installed package."""
    module = sys.modules.get(str(getattr(value, "__module__", "")))
    if module is None:
        return getattr(value, "__module__", None) is None
    file = getattr(module, "__file__", None)
    return module.__name__ != "__main__" if file is None else _is_in_package(file)


def _is_in_package(file: str) -> bool:
    """Whether a file is of Python, of an installed package or of this library."""
    return any(folder in Path(file).resolve().parents for folder in _package_folders())


@functools.cache
def _package_folders() -> set[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return {Path(sysconfig.get_path(name)).resolve() for name in names} | {Path(__file__).resolve().parent}
