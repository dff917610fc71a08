"""Schemas of values read from JSON, written as Python data, and the check of a value against one.

A schema is a type (float: a finite number), a set of allowed strings, `[spec]` for a list, a tuple for a list of fixed
length, `{str: spec}` for an object with any keys, or `{"key": spec, "key?": spec}` for an object with these keys, of
which those with `?` are optional; further keys are allowed.
"""

import math
from typing import Any

from easycoreset.errors import UsageError, quote

MAX_INTEGER = 2**63


class Nullable:
    """A value that may be null."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec


class NonEmptyList:
    """A list of at least one value."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec


def check_record(value: Any, spec: Any, where: str) -> None:
    """Refuse a value that does not match a schema.

    Raises:
        UsageError: names the path of the value in the record.

    >>> check_record({"eps": [1, "2"]}, {"eps": [float]}, "a.json")
    Traceback (most recent call last):
    easycoreset.errors.UsageError: a.json: eps[1] must be a finite number; got '2'
    """
    _check(value, spec, where, "")


def _check(value: Any, spec: Any, where: str, path: str) -> None:
    if isinstance(spec, Nullable):
        if value is not None:
            _check(value, spec.spec, where, path)
    elif isinstance(spec, list | tuple | NonEmptyList):
        _check_list(value, spec, where, path)
    elif isinstance(spec, set):
        _require(isinstance(value, str) and value in spec, where, path, f"one of {', '.join(sorted(spec))}", value)
    elif isinstance(spec, dict):
        _require(isinstance(value, dict), where, path, "an object", value)
        _check_fields(value, spec, where, path)
    elif spec is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(is_number and -1e300 < value < 1e300 and math.isfinite(value), where, path, "a finite number", value)
    elif spec is int:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        _require(is_integer and -MAX_INTEGER <= value < MAX_INTEGER, where, path, "a whole number", value)
    else:
        _require(isinstance(value, spec), where, path, {str: "text", bool: "true or false"}.get(spec, "there"), value)


def _check_list(value: Any, spec: Any, where: str, path: str) -> None:
    is_fixed = isinstance(spec, tuple)
    rule = f"a list of {len(spec)}" if is_fixed else "a list" + " of at least one" * isinstance(spec, NonEmptyList)
    valid = isinstance(value, list) and (len(value) == len(spec) if is_fixed else bool(value) or isinstance(spec, list))
    _require(valid, where, path, rule, value)
    item_specs = spec if is_fixed else [spec.spec if isinstance(spec, NonEmptyList) else spec[0]] * len(value)
    for i, (item, item_spec) in enumerate(zip(value, item_specs, strict=True)):
        _check(item, item_spec, where, f"{path}[{i}]")


def _check_fields(value: dict[str, Any], spec: dict[Any, Any], where: str, path: str) -> None:
    if str in spec:
        for name, item in value.items():
            _check(item, spec[str], where, f"{path}.{name}" if path else name)
        return
    for name, value_spec in spec.items():
        key = name.removesuffix("?")
        if key in value:
            _check(value[key], value_spec, where, f"{path}.{key}" if path else key)
        elif not name.endswith("?"):
            raise UsageError(f"{where}: {path or 'it'} lacks {quote(key)}")


def _require(holds: bool, where: str, path: str, rule: str, value: Any) -> None:
    if not holds:
        raise UsageError(f"{where}: {path or 'it'} must be {rule}; got {quote(value)}")
