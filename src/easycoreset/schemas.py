"""What a value read from JSON must be, as data, and the check against it.

A specification is a type (float: a finite number), a set of words, `[spec]` for a list, a tuple for a list of just so
many, `{str: spec}` for an object of any names, `{"name": spec, "name?": spec}` for an object of these names among
others, the second of which may be missing.
"""

import math
from typing import Any

from easycoreset.errors import UsageError, quote

LARGEST = 2**63


class Maybe:
    """A value that may be null."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec


class Some:
    """A list of one value at least."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec


def check_record(value: Any, spec: Any, where: str) -> None:
    """Refuse a value that is not what a specification says.

    Raises:
        UsageError: the place in the record is named.

    >>> check_record({"eps": [1, "2"]}, {"eps": [float]}, "a.json")
    Traceback (most recent call last):
    easycoreset.errors.UsageError: a.json: eps[1] must be a finite number; got '2'
    """
    _check(value, spec, where, "")


def _check(value: Any, spec: Any, where: str, place: str) -> None:
    if isinstance(spec, Maybe):
        if value is not None:
            _check(value, spec.spec, where, place)
    elif isinstance(spec, list | tuple | Some):
        _check_list(value, spec, where, place)
    elif isinstance(spec, set):
        _require(isinstance(value, str) and value in spec, where, place, f"one of {', '.join(sorted(spec))}", value)
    elif isinstance(spec, dict):
        _require(isinstance(value, dict), where, place, "an object", value)
        _check_fields(value, spec, where, place)
    elif spec is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(number and -1e300 < value < 1e300 and math.isfinite(value), where, place, "a finite number", value)
    elif spec is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and -LARGEST <= value < LARGEST, where, place, "a whole number", value)
    else:
        _require(isinstance(value, spec), where, place, {str: "text", bool: "true or false"}.get(spec, "there"), value)


def _check_list(value: Any, spec: Any, where: str, place: str) -> None:
    fixed = isinstance(spec, tuple)
    rule = f"a list of {len(spec)}" if fixed else "a list" + " of one at least" * isinstance(spec, Some)
    fine = isinstance(value, list) and (len(value) == len(spec) if fixed else bool(value) or isinstance(spec, list))
    _require(fine, where, place, rule, value)
    inner = spec if fixed else [spec.spec if isinstance(spec, Some) else spec[0]] * len(value)
    for row, (item, kind) in enumerate(zip(value, inner, strict=True)):
        _check(item, kind, where, f"{place}[{row}]")


def _check_fields(value: dict[str, Any], spec: dict[Any, Any], where: str, place: str) -> None:
    if str in spec:
        for name, item in value.items():
            _check(item, spec[str], where, f"{place}.{name}" if place else name)
        return
    for name, inner in spec.items():
        key = name.removesuffix("?")
        if key in value:
            _check(value[key], inner, where, f"{place}.{key}" if place else key)
        elif not name.endswith("?"):
            raise UsageError(f"{where}: {place or 'it'} lacks {quote(key)}")


def _require(holds: bool, where: str, place: str, rule: str, value: Any) -> None:
    if not holds:
        raise UsageError(f"{where}: {place or 'it'} must be {rule}; got {quote(value)}")
