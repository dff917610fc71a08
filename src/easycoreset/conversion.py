"""Convert an option's value to its type: one rule for flags, YAML files, Python callers and members' `key=value`."""

import contextlib
import functools
import numbers
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from easycoreset.errors import UsageError, quote, suggest_name

MAX_INTEGER = 2**53  # integers up to this are exact in float64, as JSON readers store them
LONGEST_NAME = 255  # bytes that the name of a file or folder may have
BOOLEANS = {"true": True, "false": False}  # the spellings of a bool in text


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


def is_sequence(hint: Any) -> bool:
    """Whether an option takes several values."""
    return typing.get_origin(hint) in (tuple, Sequence)


def convert(option: str, value: Any, hint: Any, *, text: bool = False) -> Any:
    """Convert a value to the type of its option.

    A value of another type is refused, with three exceptions: a number may be written as a fraction, a path as a
    string, and a sequence of one value as the value.

    Args:
        option: name of the option, for messages.
        value: the value as it was given.
        hint: the option's type: bool, int, float, str, Path, a Literal, a sequence of these, any of these or None, or
            a mapping.
        text: the value is text, as from a flag: a number is parsed, and a sequence is split at its commas.

    Raises:
        UsageError: the value has another type, or is not one of the choices.

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
    if is_sequence(hint):
        if text:
            value = str(value).split(",")
        items = [value] if isinstance(value, int | float | str | Path) else _list(option, value)
        return tuple(convert(option, item, typing.get_args(hint)[0], text=text) for item in items)
    if origin is Mapping:
        return _convert_mapping(option, value, text)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            suggestion = suggest_name(str(value), choices)
            raise UsageError(f"{option} must be one of {', '.join(choices)}; got {quote(value)}: {suggestion}")
        return value
    if hint is float:
        return _convert_number(option, value)
    if hint in (str, Path):
        return _convert_text(option, value, hint)
    if hint is bool:
        value = BOOLEANS.get(str(value).lower(), value) if text else value
        if type(value) is not bool:
            raise UsageError(f"{option} must be true or false; got {quote(value)}")
        return value
    if hint is int:
        return _convert_integer(option, value, text)
    return value  # an object, which only a Python caller can pass


def _convert_mapping(option: str, value: Any, text: bool) -> dict[str, Any]:
    """Read `NAME=VALUES;NAME=VALUES`, or take a mapping as it is; the values are converted where they are used."""
    if not text:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise UsageError(f"{option} must be a mapping of names; got {quote(value)}")
        return dict(value)
    pairs = [part.partition("=") for part in str(value).split(";")]
    if not all(name and values for name, _, values in pairs):
        raise UsageError(f"{option} must be NAME=VALUE[,VALUE]...; got {quote(value)}")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise UsageError(f"{option} must name each option once; got {quote(value)}")
    return {name.strip().replace("-", "_"): values for name, _, values in pairs}


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
    if not -MAX_INTEGER < int(value) < MAX_INTEGER:
        raise UsageError(f"{option} must be between -2**53 and 2**53; got {quote(value)}")
    return int(value)


def _convert_text(option: str, value: Any, hint: Any) -> Any:
    """Convert to str or Path; refuse an empty text, and a path with a name that is too long for file systems."""
    if not isinstance(value, str | Path):
        raise UsageError(f"{option} must be {'text' if hint is str else 'a path'}; got {quote(value)}")
    if not str(value):
        raise UsageError(f"{option} must not be empty; got ''")
    if hint is Path and any(len(os.fsencode(part)) > LONGEST_NAME for part in str(value).split("/")):
        raise UsageError(f"{option} must be a path of names of at most {LONGEST_NAME} bytes; got {quote(value)}")
    return cast(Any, hint)(value)
