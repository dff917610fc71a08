"""Conversion of flag values, and the display of defaults."""

from collections.abc import Sequence
from typing import Any

from easycoreset.console import format_eps
from easycoreset.conversion import convert
from easycoreset.errors import UsageError, quote


def convert_flag(hint: Any, tokens: Sequence[Any]) -> Any:
    """Convert the value of a flag.

    Args:
        hint: the type of the option.
        tokens: cyclopts' tokens, one for each time that the flag was given.

    Raises:
        UsageError: the flag was given twice, or its value is of another type.
    """
    option = str(tokens[0].keyword or tokens[0].value).lstrip("-").replace("-", "_")
    if len(tokens) > 1:
        raise UsageError(f"{option} must be given once; got {', '.join(quote(token.value) for token in tokens)}")
    return convert(option, tokens[0].value, hint, text=True)


def show_default(value: Any) -> str | None:
    """A default, formatted as the flag's value; None (nothing is shown) for switches and absent values."""
    if value is None or isinstance(value, bool) or value == ():
        return None
    if isinstance(value, tuple):
        return ",".join(format_eps(item) if isinstance(item, float) else str(item) for item in value)
    return str(value)
