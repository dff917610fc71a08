"""Load members (attacks, selectors, objectives, ...) by their spelling `NAME[:key=value]...`.

A table maps each name to `module:attribute`, so that listing names needs no import. A member with options is a
frozen dataclass with a field per option; a member without options is a function.
"""

import dataclasses
import functools
import importlib
import inspect
import keyword
import typing
from collections.abc import Mapping
from typing import Any

from easycoreset.conversion import convert, option_types
from easycoreset.errors import MAX_MESSAGE, UsageError, quote, shorten, suggest_name
from easycoreset.python_objects import find_object, is_object_spec
from easycoreset.user_modules import USER_MODULE_HINT, is_user_spec

Table = Mapping[str, str]


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Split `NAME[:key=value]...` into the name and its options; a bare `:VALUE` is short for `by=VALUE`.

    >>> split_spec("ccs:by=aum:beta=0.1")
    ('ccs', {'by': 'aum', 'beta': '0.1'})
    >>> split_spec("easiest:loss"), split_spec("my.module:attack:steps=3")
    (('easiest', {'by': 'loss'}), ('my.module:attack', {'steps': '3'}))
    """
    name, *parts = spec.split(":")
    if is_user_spec(spec):
        name = f"{name}:{parts.pop(0)}"
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key, value = (_field_name(key), value) if equals else ("by", part)
        if not value or key in options:
            raise UsageError(f"{quote(spec)}: {'option given twice' if key in options else 'no value'}: {quote(key)}")
        options[key] = value
    return name, options


def _field_name(key: str) -> str:
    """The field of an option: `from` is that of `from_`, since Python keeps the word for itself."""
    name = key.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def load_attribute(kind: str, path: str) -> Any:
    """Import `module:attribute`, or find the object of Python that a spelling stands for.

    Raises:
        UsageError: the module cannot be imported or lacks the attribute.
    """
    if is_object_spec(path):
        return find_object(kind, path)
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        reason = shorten(str(error), 2 * MAX_MESSAGE)
        reason += f"; write {module[:-3]}:{attribute}" if module.endswith(".py") else ""
        raise UsageError(f"{kind} {quote(path)} cannot be imported: {type(error).__name__}: {reason}") from None


def find_member(kind: str, name: str, table: Table) -> Any:
    """Import the class or function of a member: from `table`, or from a user's module.

    Raises:
        UsageError: there is no such member; the message suggests the closest name.
    """
    if name not in table and not is_user_spec(name):
        raise UsageError(f"unknown {kind} {quote(name)}: {suggest_name(name, table)}{USER_MODULE_HINT}")
    return load_attribute(kind, table.get(name, name))


def load_member(kind: str, spec: str, table: Table, **extra: Any) -> Any:
    """Build the member of `spec`; `extra` options, from flags, must not contradict it.

    Args:
        kind: the kind of member, for messages ("attack").
        spec: `NAME[:key=value]...`
        table: name -> `module:attribute`
        extra: further options by name; None means that an option was not given.

    Returns:
        An instance of the member's dataclass, or the member's function.

    Raises:
        UsageError: unknown name or option, a value of the wrong type, or an option given twice.
    """
    name, options = split_spec(spec)
    member = find_member(kind, name, table)
    extra = {key: value for key, value in extra.items() if value is not None}
    if not (isinstance(member, type) and dataclasses.is_dataclass(member)):
        return _with_options(kind, name, member, {**options, **extra})
    fields = {field.name: field for field in dataclasses.fields(member) if field.init}
    hints = option_types(member)
    values: dict[str, Any] = {}
    for key, value in [*options.items(), *extra.items()]:
        if key not in fields:
            raise UsageError(f"{kind} {quote(name)} has no option {quote(key)}: {suggest_name(key, fields)}")
        parsed = convert(f"{kind} {name}:{key}", value, hints[key], text=True) if isinstance(value, str) else value
        if key in values and values[key] != parsed:
            raise UsageError(f"{kind} {quote(spec)}: {key} is given twice, as {quote(values[key])} and {quote(parsed)}")
        values[key] = parsed
    for key in required_fields(member):
        if key not in values:
            option = key.rstrip("_")
            raise UsageError(f"{kind} {quote(name)} needs {option}: give {name}:{option}=VALUE")
    return typing.cast(Any, member)(**values)


def _with_options(kind: str, name: str, member: Any, options: Mapping[str, Any]) -> Any:
    """A function with some of its keyword arguments, or an object of a dataclass with other values.

    Raises:
        UsageError: it does not take an option.
    """
    is_instance = dataclasses.is_dataclass(member)
    known = [field.name for field in dataclasses.fields(member)] if is_instance else accepted_keywords(member)
    for key in options:
        if key not in known:
            rule = "options are keyword-only arguments, or the fields of a frozen dataclass"
            raise UsageError(f"{kind} {quote(name)} takes no option {quote(key)}: {rule}")
    if not options:
        return member
    return (
        dataclasses.replace(typing.cast(Any, member), **options)
        if is_instance
        else functools.partial(member, **options)
    )


def accepted_keywords(function: Any) -> list[str]:
    """The keyword-only arguments of a function or of an object's call."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def required_fields(member: Any) -> list[str]:
    """The options of a member's dataclass that have no default."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(member)
    return [f.name for f in fields if f.init and f.default is missing and f.default_factory is missing]


def spell_member(name: str, member: Any) -> str:
    """Spell a member with only the options that differ from their defaults, so that its spelling is unique.

    >>> spell_member("random", print)
    'random'
    """
    is_plain = not dataclasses.is_dataclass(member) or isinstance(member, type)
    if is_plain or (is_object_spec(name) and not isinstance(find_object(name, name), type)):
        return name
    parts = [name]
    for field in dataclasses.fields(member):
        value = getattr(member, field.name)
        if value != field.default and field.init:
            parts.append(f"{field.name.rstrip('_')}={str(value).lower() if isinstance(value, bool) else value}")
    return ":".join(parts)


def describe_members(kind: str, table: Table) -> list[dict[str, str]]:
    """One record per member: name, options with defaults, description and, for some kinds, needs and cost."""
    records: list[dict[str, str]] = []
    for name in table:
        member = find_member(kind, name, table)
        record = {"name": name, "options": "", "is": ""}
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            required = required_fields(member)
            fields = [f for f in dataclasses.fields(member) if f.init]
            shown = [(f.name.rstrip("_"), "..." if f.name in required else f.default) for f in fields]
            record["options"] = " ".join(f"{option}={default}" for option, default in shown)
            member = typing.cast(Any, member) if required else typing.cast(Any, member)()
        record["is"] = getattr(member, "description", None) or (member.__doc__ or "").strip().split("\n")[0]
        if hasattr(member, "needs"):
            needs = member.needs
            if isinstance(needs, property):
                needs = typing.cast(Any, needs.fget)(member)  # of a class, which has its fields' defaults
            record |= {"needs": ", ".join(needs) or "nothing", "cost": member.cost}
        records.append(record)
    return records
