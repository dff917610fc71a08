"""Kinds of option values as flags spell them, and functions that take an options object."""

import ast
import dataclasses
import functools
import inspect
import itertools
import numbers
import os
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast

from cyclopts import Parameter

from easycoreset.console import say_eps
from easycoreset.errors import UsageError, nearest, quote
from easycoreset.members import parse_number

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - the options
R = TypeVar("R")


def _split_names(type_: Any, tokens: Sequence[Any]) -> tuple[str, ...]:
    return tuple(name for token in tokens for name in token.value.split(","))


def _split_numbers(type_: Any, tokens: Sequence[Any]) -> tuple[float, ...]:
    return tuple(parse_number(name) for name in _split_names(type_, tokens))


def _one_number(type_: Any, tokens: Sequence[Any]) -> float:
    return parse_number(tokens[0].value)


def _say_numbers(values: Sequence[float] | None) -> str:
    return ",".join(map(say_eps, values or ())) or "none"


def _say_names(names: Sequence[str]) -> str:
    return ",".join(names) or "none"


def _split_integers(type_: Any, tokens: Sequence[Any]) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _split_names(type_, tokens))
    except ValueError:
        raise UsageError(f"{quote(tokens[0].value)} must be whole numbers with commas between") from None


def _one_integer(type_: Any, tokens: Sequence[Any]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise UsageError(f"{quote(tokens[0].value)} is not a whole number") from None


Names = Annotated[Sequence[str], Parameter(converter=_split_names, n_tokens=1, negative=(), show_default=_say_names)]
Numbers = Annotated[
    Sequence[float], Parameter(converter=_split_numbers, n_tokens=1, negative=(), show_default=_say_numbers)
]
Number = Annotated[float, Parameter(converter=_one_number, n_tokens=1)]
Integer = Annotated[int, Parameter(converter=_one_integer, n_tokens=1)]
Integers = Annotated[Sequence[int], Parameter(converter=_split_integers, n_tokens=1, negative=())]
Switch = Annotated[bool, Parameter(show_default=False)]

Device = Literal["auto", "cpu", "cuda", "mps"]
Schedule = Literal["auto", "onecycle", "cosine", "step", "constant"]
Norm = Literal["linf", "l2"]

NEUTRAL = {"neutral": True}
LARGEST = 2**53
LONGEST_NAME = 255  # bytes of a file's name


def check_types(options: Any) -> None:
    """Bring every field of an options object to its type, or refuse it: Python callers are not parsed by anybody.

    Numbers may be spelled as fractions, a path as a string, a single name or number stands for a list of one.

    Raises:
        UsageError: a value of another type, or outside its choices; the option is named.
    """
    hints = typing.get_type_hints(cast(Any, type(options)), include_extras=True)
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        hint = hints[item.name]
        kinds = [h for h in typing.get_args(hint) if h is not type(None)]
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            if value is None:
                continue
            hint = kinds[0]
        object.__setattr__(options, item.name, _to_kind(item.name, value, hint))


def _to_kind(option: str, value: Any, hint: Any) -> Any:
    if hint in (Names, Numbers, Integers):
        inner = str if hint == Names else Number if hint == Numbers else int
        several = [value] if isinstance(value, int | float | str) else list(value)
        return tuple(_to_kind(option, item, inner) for item in several)
    if hint == Number:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise UsageError(f"{option} must be a number; got {quote(value)}")
        return parse_number(value)
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UsageError(
                f"{option} must be one of {', '.join(choices)}; got {quote(value)}: {nearest(str(value), choices)}"
            )
        return value
    if hint in (str, Path):
        if not isinstance(value, str | Path):
            raise UsageError(f"{option} must be of type {hint.__name__}; got {quote(value)}")
        _check_path(option, str(value), hint)
        return hint(value)
    if hint is int and isinstance(value, int) and not -LARGEST < value < LARGEST:
        raise UsageError(f"{option} must be within 2**53; got {quote(value)}")
    whole = isinstance(value, numbers.Integral) and type(value) is not bool  # pyright: ignore[reportUnnecessaryComparison]
    if type(value) is not hint and not (hint is int and whole):
        raise UsageError(f"{option} must be of type {hint.__name__}; got {quote(value)}")
    return hint(value)


def _check_path(option: str, value: str, hint: Any) -> None:
    """Refuse an empty path, and one that no system has room for."""
    if not value:
        raise UsageError(f"{option} must not be empty; got ''")
    if hint is Path and any(len(os.fsencode(part)) > LONGEST_NAME for part in value.split("/")):
        raise UsageError(f"{option} must be a path of names of at most {LONGEST_NAME} bytes; got {quote(value)}")


def takes(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Let a function of one options object be called with the options themselves as keywords.

    The function's docstring then describes every option, as the fields' own docstrings do.
    """

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            unknown = next((name for name in kwargs if name not in signature.parameters), None)
            if unknown is not None:
                offered = nearest(unknown, signature.parameters)
                raise TypeError(f"{function.__name__}() has no option {quote(unknown)}: {offered}")
            return function(options(*args, **kwargs))

        hints = typing.get_type_hints(options)
        signature = inspect.signature(options)
        plain = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
        signature = signature.replace(parameters=plain, return_annotation=inspect.signature(function).return_annotation)
        vars(call)["__signature__"] = signature
        vars(call)["__annotations__"] = {}
        described = "".join(f"\n        {name}: {says}" for name, says in describe_fields(options).items())
        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nArgs:{described}\n"
        return call

    return decorate


def describe_fields(options: Any) -> dict[str, str]:
    """The docstring under each field of an options class and its bases, name -> text."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        body = cast(ast.ClassDef, ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]).body
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[cast(ast.Name, field.target).id] = str(text.value.value)
    return found


def options_json(options: Any, *, neutral: bool = True) -> dict[str, Any]:
    """The options as plain JSON values; without the neutral ones where `neutral` is False."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        if neutral or not item.metadata.get("neutral"):
            value = getattr(options, item.name)
            if isinstance(value, tuple):
                value = list(cast("tuple[Any, ...]", value))
            values[item.name] = str(value) if isinstance(value, Path) else value
    return values
