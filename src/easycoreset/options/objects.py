"""Objects in place of names: options that name a thing take the thing itself from Python callers."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from easycoreset.members import spell_member
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import keep_object

NAMERS = {  # kind of thing -> function (object) -> the spelling or the path that stands for it
    "data": "easycoreset.data.in_memory:name_data",
    "model": "easycoreset.models.in_memory:name_model",
    "member": "easycoreset.options.objects:name_member",
    "scores": "easycoreset.tables.in_memory:store_scores",
    "coreset": "easycoreset.tables.in_memory:store_coreset",
}
TABLES = (  # of built-in members
    "easycoreset.attacks:ATTACKS",
    "easycoreset.dynamic:DYNAMIC_METHODS",
    "easycoreset.hardness:HARDNESS",
    "easycoreset.objectives:OBJECTIVES",
    "easycoreset.selection:SELECTORS",
)

if TYPE_CHECKING:  # what callers may give; options hold the name, or the path, that stands for it
    Named = str | Any
    PathOrTable = Path | Any
else:
    Named = str
    PathOrTable = Path
GIVEN = {  # kind of thing -> what a signature shows
    "data": "str | data set | arrays",
    "model": "str | nn.Module | Callable[[], nn.Module]",
    "member": "str | Callable",
    "scores": "str | Path | Scores",
    "coreset": "str | Path | Coreset",
}


def takes(kind: str) -> dict[str, Any]:
    """The metadata of a field that names a thing, and takes the thing too."""
    return {"takes": kind}


DATA, MODEL, MEMBER, SCORES, CORESET = map(takes, ("data", "model", "member", "scores", "coreset"))


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


def store_network(network: Any, data: Any) -> dict[str, Any]:
    """The options `weights` and `model` of an evaluation of a module, and `data` where these are in memory too."""
    module = importlib.import_module("easycoreset.models.stored")
    options: dict[str, Any] = module.store_model(network)
    if not isinstance(data, str | Path):
        trained_on = options.pop("trained_on")
        options["data"] = importlib.import_module("easycoreset.data.in_memory").name_test_data(data, trained_on)
    options.pop("trained_on", None)
    return options


def name_member(value: Any) -> Any:
    """The spelling of a built-in attack, method, objective or hardness; a user's function or callable is kept."""
    if (builtin := _spell_builtin(value)) is not None:
        return builtin
    name = getattr(value, "__name__", type(value).__name__)
    return keep_object(name, digest_object(value), value) if callable(value) else value
