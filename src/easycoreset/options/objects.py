"""Objects in place of names: options that name a thing take the thing itself from Python callers."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from easycoreset.errors import UsageError
from easycoreset.members import spell_member
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import keep_object

NAMERS = {  # kind of thing -> function (object) -> the spelling or the path that stands for it
    "data": "easycoreset.data.in_memory:name_data",
    "model": "easycoreset.models.in_memory:name_model",
    "member": "easycoreset.options.objects:name_member",
    "scores": "easycoreset.tables.in_memory:store_scores",
    "coreset": "easycoreset.tables.in_memory:store_coreset",
    "images": "easycoreset.data.unlabelled:name_images",
    "initial weights": "easycoreset.models.stored:store_initial_weights",
    "trained model": "easycoreset.models.stored:store_trained",
    "result": "easycoreset.options.objects:store_result",
    "folder": "easycoreset.options.objects:find_folder",
    "classes": "easycoreset.options.objects:name_classes",
}
TABLES = (  # of built-in members
    "easycoreset.attacks:ATTACKS",
    "easycoreset.dynamic:DYNAMIC_METHODS",
    "easycoreset.hardness:HARDNESS",
    "easycoreset.objectives:OBJECTIVES",
    "easycoreset.selection:SELECTORS",
)

T = TypeVar("T")
if TYPE_CHECKING:  # callers may also give text for a path, or the thing; options hold the name or the path of it
    Named = str | Any
    Several = Sequence[T] | Any  # one, or several
    GivenPath = Path | Any
else:
    Named = str
    Several = Sequence
    GivenPath = Path
GIVEN = {  # kind of thing -> what a signature shows
    "data": "str | data set | arrays",
    "model": "str | nn.Module | Callable[[], nn.Module]",
    "member": "str | Callable",
    "scores": "str | Path | Scores",
    "coreset": "str | Path | Coreset",
    "images": "str | data set | arrays",
    "initial weights": "str | Path | nn.Module",
    "trained model": "str | Path | nn.Module",
    "result": "str | Path | Scores | Coreset | Audit | Comparison | nn.Module",
    "folder": "str | Path | Scores | Audit | Comparison",
    "classes": "int | str",
}


def takes(kind: str) -> dict[str, Any]:
    """The metadata of a field that names a thing, and takes the thing too."""
    return {"takes": kind}


DATA, MODEL, MEMBER, SCORES, CORESET = map(takes, ("data", "model", "member", "scores", "coreset"))
IMAGES, INITIAL_WEIGHTS, TRAINED_MODEL = map(takes, ("images", "initial weights", "trained model"))
RESULT, FOLDER, CLASSES = map(takes, ("result", "folder", "classes"))


def name_objects(value: Any, metadata: Mapping[str, Any], is_sequence: bool) -> Any:
    """The value of an option, with names and paths in place of objects.

    Args:
        value: what the caller gave.
        metadata: the metadata of the option's field.
        is_sequence: whether the option takes several names.

    Raises:
        UsageError: an object of another kind.
    """
    kind = metadata.get("takes")
    if kind is None or value is None or isinstance(value, str | Path):
        return value
    several = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    is_one = (
        kind == "data" and isinstance(value, tuple) and several and not any(isinstance(v, str | Path) for v in several)
    )
    if is_sequence and not is_one:  # a tuple of arrays or of data sets is one data set with its parts
        return [name_objects(item, metadata, False) for item in several]
    module, _, name = NAMERS[kind].partition(":")
    return getattr(importlib.import_module(module), name)(value)


def _spell_builtin(value: Any) -> str | None:
    """The spelling of a built-in member's class, object or function; None for a user's."""
    definition = value if isinstance(value, type) or not dataclasses.is_dataclass(value) else type(value)
    path = f"{getattr(definition, '__module__', '')}:{getattr(definition, '__qualname__', '')}"
    for table in TABLES if path.startswith("easycoreset.") else ():
        module, _, name = table.partition(":")
        for member, place in getattr(importlib.import_module(module), name).items():
            if place == path:
                return member if definition is value else spell_member(member, value)
    return None


def store_network(network: Any) -> dict[str, Any]:
    """The options `weights` and `model` for a module, and the fingerprint `trained_on` of its data, '' if unknown."""
    return importlib.import_module("easycoreset.models.stored").store_model(network)


def name_test_data(data: Any, trained_on: str, decisions: Path | None) -> str:
    """The spelling of data in memory on which a module is evaluated."""
    return importlib.import_module("easycoreset.data.in_memory").name_test_data(data, trained_on, decisions)


def store_result(value: Any) -> Path:
    """The file or folder of a result, which is written if it is only in memory.

    Raises:
        UsageError: it is no result of a command.
    """
    if isinstance(getattr(value, "out", None), Path):  # of an audit or a comparison
        return value.out
    kind = {"Scores": "scores", "Coreset": "coreset"}.get(type(value).__name__)
    if kind is None and not hasattr(value, "state_dict"):
        raise UsageError(f"source must be a path or a result: {GIVEN['result']}; got {type(value).__name__}")
    return name_objects(value, takes(kind or "trained model"), False)


def find_folder(value: Any) -> Path:
    """The folder of a result that a command wrote.

    Raises:
        UsageError: it is no such result.
    """
    file = getattr(value, "file", None)  # of scores that were read
    folder = getattr(value, "out", file.parent if isinstance(file, Path) else None)
    if not isinstance(folder, Path):
        raise UsageError(f"out must be a folder that a command wrote, or its result; got {type(value).__name__}")
    return folder


def name_classes(value: Any) -> Any:
    """The number of classes as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def name_member(value: Any) -> Any:
    """The spelling of a built-in attack, method, objective or hardness; a user's function or callable is kept."""
    if (builtin := _spell_builtin(value)) is not None:
        return builtin
    name = getattr(value, "__name__", type(value).__name__)
    return keep_object(name, digest_object(value), value) if callable(value) else value
