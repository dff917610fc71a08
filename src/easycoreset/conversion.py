"""The one conversion of an option's value, for flags, YAML files, Python callers and members' `key=value`."""

import contextlib
import functools
import numbers
import os
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from easycoreset.errors import UsageError, quote, suggest_name

LARGEST = 2**53
LONGEST_NAME = 255  # bytes of a file's name
SWITCH = {"true": True, "false": False}


def parse_number(text: str | float) -> float:
    """Read a number or a fraction.

    Raises:
        UsageError: `text` is neither.

    >>> parse_number("8/255") == 8 / 255
    True
    """
    try:
        if isinstance(text, int | float) and not isinstance(text, bool):
            return float(text)
        parts = str(text).split("/")
        value = float(parts[0]) / (float(parts[1]) if len(parts) == 2 else 1.0)
        if len(parts) > 2 or value != value or value in (float("inf"), float("-inf")):
            raise ValueError
    except (ValueError, ArithmeticError):
        raise UsageError(f"{quote(text)} is neither a number nor a fraction like 8/255") from None
    return value


@functools.cache
def option_types(kind: Any) -> dict[str, Any]:
    """The type of every field of a dataclass, by name."""
    return typing.get_type_hints(kind)


def convert(option: str, value: Any, hint: Any, *, text: bool = False) -> Any:
    """Bring a value to the type of its option.

    Nothing is coerced, but that a number may be written as a fraction, a path as a string, and a single value for a
    sequence of one.

    Args:
        option: its name, for messages.
        value: as it was given.
        hint: the option's type: bool, int, float, str, Path, a Literal, a sequence of these, or any of these or None.
        text: the value is text, as a flag's is: a number is parsed, and a sequence is split at its commas.

    Raises:
        UsageError: a value of another type, or outside its choices.

    >>> convert("eps", "1/4,0.5", tuple[float, ...], text=True), convert("steps", 3, int | None)
    ((0.25, 0.5), 3)
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return convert(option, value, typing.get_args(hint)[0], text=text)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = next(kind for kind in typing.get_args(hint) if kind is not type(None))
        return convert(option, value, inner, text=text)
    if origin in (tuple, Sequence):
        if text:
            value = str(value).split(",")
        items = [value] if isinstance(value, int | float | str) else _list(option, value)
        return tuple(convert(option, item, typing.get_args(hint)[0], text=text) for item in items)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            offered = suggest_name(str(value), choices)
            raise UsageError(f"{option} must be one of {', '.join(choices)}; got {quote(value)}: {offered}")
        return value
    if hint is float:
        return _convert_number(option, value)
    if hint in (str, Path):
        return _convert_text(option, value, hint)
    if hint is bool:
        value = SWITCH.get(str(value).lower(), value) if text else value
        if type(value) is not bool:
            raise UsageError(f"{option} must be true or false; got {quote(value)}")
        return value
    if hint is int:
        return _convert_integer(option, value, text)
    return value  # an object, in Python


def _list(option: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise UsageError(f"{option} must be a list; got {quote(value)}") from None


def _convert_number(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UsageError(f"{option} must be a number; got {quote(value)}")
    try:
        return parse_number(value)
    except UsageError as error:
        raise UsageError(f"{option} must be a number: {error}") from None


def _convert_integer(option: str, value: Any, text: bool) -> int:
    if text:
        with contextlib.suppress(ValueError):
            value = int(value)
    if not isinstance(value, numbers.Integral) or type(value) is bool:
        raise UsageError(f"{option} must be a whole number; got {quote(value)}")
    if not -LARGEST < int(value) < LARGEST:
        raise UsageError(f"{option} must be within 2**53; got {quote(value)}")
    return int(value)


def _convert_text(option: str, value: Any, hint: Any) -> Any:
    """Refuse an empty text, and a path that no system has room for."""
    if not isinstance(value, str | Path):
        raise UsageError(f"{option} must be {'text' if hint is str else 'a path'}; got {quote(value)}")
    if not str(value):
        raise UsageError(f"{option} must not be empty; got ''")
    if hint is Path and any(len(os.fsencode(part)) > LONGEST_NAME for part in str(value).split("/")):
        raise UsageError(f"{option} must be a path of names of at most {LONGEST_NAME} bytes; got {quote(value)}")
    return cast(Any, hint)(value)
