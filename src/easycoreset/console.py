"""Notes for the user on standard error, and how figures and names are written.

The command line calls `configure_output`. Without it, only warnings appear (by Python's logging);
a worker prints nothing.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Any

log = logging.getLogger("easycoreset")

_shown: bool | None = None  # None: nobody has said


def configure_output(quiet: bool = False) -> None:
    """Send notes to standard error, and progress too unless `quiet`."""
    global _shown
    _shown = not quiet
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def is_output_shown() -> bool | None:
    """Whether notes and progress are shown, as by the command line without --quiet; None where nobody has said."""
    return _shown


def silence() -> None:
    """Print nothing: a worker writes its progress to the experiment's records."""
    global _shown
    _shown = False
    log.handlers[:] = [logging.NullHandler()]


def format_duration(seconds: float) -> str:
    """Format a duration.

    >>> format_duration(75), format_duration(3700), format_duration(4.2)
    ('1m15s', '1h01m', '4s')
    """
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    return f"{total // 60}m{total % 60:02d}s" if total < 3600 else f"{total // 3600}h{total % 3600 // 60:02d}m"


def format_percent(fraction: float) -> str:
    """Format a fraction as a percentage.

    >>> format_percent(0.1), format_percent(0.0045)
    ('10%', '0.45%')
    """
    return f"{100 * fraction:.3g}%"


def format_objective(objective: str, others: Iterable[str]) -> str:
    """The name of an objective, with its options where `others` holds one of the same name with other options.

    >>> format_objective("trades:beta=1", ["standard"]), format_objective("trades:beta=1", ["trades:beta=6"])
    ('trades', 'trades:beta=1')
    """
    name = objective.split(":")[0] if "." not in objective.split(":")[0] else objective
    return objective if any(other != objective and other.startswith(name) for other in others) else name


def format_eps(eps: float) -> str:
    """Format a radius: a short decimal where that is exact, else n/255 for a whole n.

    >>> format_eps(8 / 255), format_eps(0.2)
    ('8/255', '0.2')
    """
    pixels = eps * 255
    decimal = f"{eps:.4g}"
    return f"{round(pixels)}/255" if float(decimal) != eps and abs(pixels - round(pixels)) < 1e-9 else decimal


def printable_name(name: Any) -> str:
    """Format the name of a file or a class on one line.

    >>> printable_name("two words.png"), printable_name("two" + chr(10) + "lines").count(chr(10))
    ('two words.png', 0)
    """
    return str(name) if str(name).isprintable() else repr(str(name))


def escape_control(text: object) -> str:
    """Escape control characters, which might steer the terminal; line ends and tabs stay.

    >>> escape_control("cat" + chr(27) + "[2J").isprintable(), escape_control("two" + chr(10) + "lines").count(chr(10))
    (True, 1)
    """
    string = str(text)
    if string.isprintable():
        return string
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in string)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escape_control(super().format(record))
