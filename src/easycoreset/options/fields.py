"""Metadata and validation of option fields, and a decorator for functions that take an options object."""

import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
import shutil
import textwrap
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, cast

from easycoreset.conversion import convert, is_sequence, option_types
from easycoreset.errors import quote, require, suggest_name
from easycoreset.options.objects import GIVEN, name_objects
from easycoreset.python_objects import make_temporary_folder

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - the options
R = TypeVar("R")

Device = Literal["auto", "cpu", "cuda", "mps"]
Norm = Literal["linf", "l2"]
NEUTRAL = {"neutral": True}
UNIQUE = {"unique": True}


class Rule(NamedTuple):
    """A condition on a value, in words and as a predicate."""

    words: str
    holds: Callable[[Any], bool]


def rule(words: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """The metadata of a field whose value, or each of its values, must meet a condition."""
    return {"rule": Rule(words, holds)}


AT_LEAST_0 = rule(">= 0", lambda value: value >= 0)
AT_LEAST_1 = rule(">= 1", lambda value: value >= 1)
ABOVE_0 = rule("> 0", lambda value: value > 0)
FINITE_AT_LEAST_0 = rule("finite and >= 0", lambda value: 0 <= value < float("inf"))
SHARE = rule("in (0, 1]", lambda value: 0 < value <= 1)
INNER_SHARE = rule("in (0, 1)", lambda value: 0 < value < 1)


def validate(options: Any) -> None:
    """Convert every field of an options object to its type, and check it against its rule.

    Raises:
        UsageError: a value has another type or breaks its rule; the message names the option.
    """
    hints = option_types(cast(Any, type(options)))
    for item in dataclasses.fields(options):
        given = name_objects(getattr(options, item.name), item.metadata, is_sequence(hints[item.name]))
        value = convert(item.name, given, hints[item.name])
        object.__setattr__(options, item.name, value)
        check_rule(item.name, value, item.metadata)


def check_rule(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    """Check a value, or each value of a tuple, against the rule of its field."""
    values = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
    if "rule" in metadata:
        for item in values:
            require(item is None or metadata["rule"].holds(item), name, metadata["rule"].words, item)
    if metadata.get("unique"):
        require(len(set(values)) == len(values), name, "given once each", value)


def with_default(group: Any, name: str, default: Any) -> Any:
    """The field `name` of a group of options with another default."""
    metadata = next(item.metadata for item in dataclasses.fields(group) if item.name == name)
    return dataclasses.field(default=default, metadata=metadata)


def out_field() -> Any:
    """The field `out`, which the command line requires; type checkers take it for one that may be left out."""
    return dataclasses.field(metadata=NEUTRAL)


def field_names(group: Any, *, neutral: bool = True) -> tuple[str, ...]:
    """The names of a group's fields; without the neutral ones if `neutral` is False."""
    return tuple(item.name for item in dataclasses.fields(group) if neutral or not item.metadata.get("neutral"))


def values_of(options: Any, group: Any) -> dict[str, Any]:
    """The values that an options object has for the fields of a group."""
    return {name: getattr(options, name) for name in field_names(group)}


def accept_options(
    options: Callable[P, O], temporary_out: str | None = None
) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Let callers of a function of one options object pass the options as keyword arguments.

    The docstrings of the fields are added to the function's docstring.

    Args:
        options: the class of the options.
        temporary_out: where `out` may be left out: the name of the result in a temporary folder, which goes with the
            object that the function returns.
    """

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            _check_arguments(function.__name__, signature, args, kwargs)
            if temporary_out is None or kwargs.get("out") is not None:
                return function(options(*args, **kwargs))
            folder = make_temporary_folder(function.__name__)
            try:
                result = function(cast(Any, options)(*args, **{**kwargs, "out": folder / temporary_out}))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            with contextlib.suppress(TypeError):  # None where the time was up; the folder goes at exit
                weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
            return result

        hints = option_types(options)
        signature = inspect.signature(cast(Any, options).__init__)  # not of a class's own __new__
        given = {
            item.name: GIVEN.get(item.metadata.get("takes", "")) for item in dataclasses.fields(cast(Any, options))
        }
        typed = [
            p.replace(annotation=given[p.name] or PATHS.get(hints[p.name], hints[p.name]))
            for p in signature.parameters.values()
            if p.name != "self"
        ]
        if temporary_out is not None:
            typed = [p.replace(default=None) if p.name == "out" else p for p in typed]
        signature = signature.replace(parameters=typed, return_annotation=inspect.signature(function).return_annotation)
        vars(call)["__signature__"] = signature
        vars(call)["__annotations__"] = {}
        described = {name: _with_given(text, given.get(name)) for name, text in describe_fields(options).items()}
        call.__doc__ = _with_arguments(inspect.cleandoc(function.__doc__ or ""), described)
        return call

    return decorate


def _check_arguments(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse options that are given by position, unknown or missing.

    Raises:
        TypeError: as for any function, with what to do.
    """
    if len(args) > sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values()):
        required = [p.name for p in signature.parameters.values() if p.default is p.empty]
        names = ", ".join(f"{key}=..." for key in required)
        raise TypeError(f"{name}() takes its options by name, as in {name}({names})")
    unknown = next((key for key in kwargs if key not in signature.parameters), None)
    if unknown is not None:
        suggestion = suggest_name(unknown, signature.parameters)
        if "." in unknown and "vary" in signature.parameters:
            suggestion = f"give vary={{{unknown!r}: ...}}"
        raise TypeError(f"{name}() has no option {quote(unknown)}: {suggestion}")
    bound = signature.bind_partial(*args, **kwargs).arguments
    missing = [p.name for p in signature.parameters.values() if p.default is p.empty and p.name not in bound]
    if missing:
        raise TypeError(f"{name}() needs {' and '.join(f'{key}=' for key in missing)}")


def _with_given(text: str, given: str | None) -> str:
    """The description of an option, with what is taken in place of a name or a path."""
    return text if given is None else f"{text} In Python: {given}."


def _with_arguments(text: str, described: Mapping[str, str]) -> str:
    """A docstring with its arguments: before the sections on what is returned and raised."""
    lines = [f"{name}: {' '.join(words.split())}" for name, words in described.items()]
    arguments = "\n".join(["Args:", *(line for long in lines for line in textwrap.wrap(long, 100, **INDENTS))])
    start = min((text.find(f"\n\n{title}:") for title in SECTIONS if f"\n\n{title}:" in text), default=len(text))
    return f"{text[:start]}\n\n{arguments}{text[start:]}\n"


INDENTS: dict[str, Any] = {"initial_indent": "    ", "subsequent_indent": "        "}
PATHS: dict[Any, str] = {Path: "str | Path", Path | None: "str | Path | None"}  # what a signature shows
SECTIONS = ("Returns", "Raises")


def describe_fields(options: Any) -> dict[str, str]:
    """The docstring under each field of an options class and its bases, name -> text."""
    descriptions: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        body = cast(ast.ClassDef, ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]).body
        for item, text in itertools.pairwise(body):
            if isinstance(item, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                descriptions[cast(ast.Name, item.target).id] = str(text.value.value)
    return descriptions


def options_json(options: Any, *, neutral: bool = True) -> dict[str, Any]:
    """The options as plain JSON values; without the neutral ones if `neutral` is False."""
    return {name: _json(getattr(options, name)) for name in field_names(options, neutral=neutral)}


def defaults_json(options: Any) -> dict[str, Any]:
    """The defaults of an options object's fields as plain JSON values; a required field has none."""
    fields = dataclasses.fields(options)
    return {item.name: _json(item.default) for item in fields if item.default is not dataclasses.MISSING}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    return str(value) if isinstance(value, Path) else value
