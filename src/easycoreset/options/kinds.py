"""Kinds of option values as flags spell them, and functions that take an options object."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast

from cyclopts import Parameter

from easycoreset.errors import UsageError
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


def _split_integers(type_: Any, tokens: Sequence[Any]) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _split_names(type_, tokens))
    except ValueError:
        raise UsageError(f"{tokens[0].value!r} must be whole numbers with commas between") from None


def _one_integer(type_: Any, tokens: Sequence[Any]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise UsageError(f"{tokens[0].value!r} is not a whole number") from None


Names = Annotated[Sequence[str], Parameter(converter=_split_names, n_tokens=1)]
Numbers = Annotated[Sequence[float], Parameter(converter=_split_numbers, n_tokens=1)]
Number = Annotated[float, Parameter(converter=_one_number, n_tokens=1)]
Integer = Annotated[int, Parameter(converter=_one_integer, n_tokens=1)]
Integers = Annotated[Sequence[int], Parameter(converter=_split_integers, n_tokens=1)]
Switch = Annotated[bool, Parameter(negative=())]

Device = Literal["auto", "cpu", "cuda", "mps"]
Schedule = Literal["auto", "onecycle", "cosine", "step", "constant"]
Norm = Literal["linf", "l2"]

NEUTRAL = {"neutral": True}


def takes(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Let a function of one options object be called with the options themselves as keywords.

    >>> @takes(SelectOptions)
    ... def count(options: SelectOptions) -> float:
    ...     return options.fraction
    >>> count(scores=Path("s.parquet"), fraction=0.5, out=Path("c.parquet"))
    0.5
    """

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(options(*args, **kwargs))

        returns = inspect.signature(function).return_annotation
        vars(call)["__signature__"] = inspect.signature(options).replace(return_annotation=returns)
        vars(call)["__annotations__"] = {}
        return call

    return decorate


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
