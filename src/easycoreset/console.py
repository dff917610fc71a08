"""Notes, progress and the remaining time for the user, all on standard error.

The command line calls `configure_output`. Without it, only warnings appear (by Python's logging);
a worker prints nothing.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

log = logging.getLogger("easycoreset")

_shown = False


def configure_output(quiet: bool = False) -> None:
    """Send notes to standard error, and progress too unless `quiet`."""
    global _shown
    _shown = not quiet
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def silence() -> None:
    """Print nothing: a worker writes its progress to the experiment's records."""
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


class Progress:
    """Progress towards a known total; the remaining time appears after 20 steps."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label = label
        self.total = max(total, 1)
        self.done = done
        self.text = ""
        self._first = done
        self._calls = 0
        self._start = time.monotonic()
        self._printed = time.monotonic()
        self._bar = _rich_bar() if _shown and sys.stderr.isatty() else None
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(label, total=self.total, completed=done, text="")

    def advance(self, steps: int = 1, text: str | None = None, above: Any = None) -> None:
        """Count `steps` as done; `text` is shown beside the count, `above` is shown above a terminal's bar."""
        self.done += steps
        self.text = self.text if text is None else text
        if self._bar is not None:
            self._bar.above = self._bar.above if above is None else above
            self._bar.update(self._task, completed=self.done, text=self.text)
        elif _shown:
            self._print_line()

    def _print_line(self) -> None:
        """Print a line after 20 steps, and then every 15 seconds."""
        self._calls += 1
        now = time.monotonic()
        if self._calls != 20 and now - self._printed < 15:
            return
        self._printed = now
        left = (now - self._start) / (self.done - self._first) * (self.total - self.done)
        remaining_text = f", {format_duration(left)} left" if self._calls >= 20 else ""
        line = f"{self.label}: {self.done}/{self.total}{remaining_text}{'  ' + self.text if self.text else ''}"
        print(escape_control(line), file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


def _rich_bar() -> Any:
    """A progress bar on standard error that can show a renderable above itself."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    class Bar(RichProgress):
        above: Any = None

        def get_renderables(self) -> Iterator[Any]:  # rich's hook
            if self.above is not None:
                yield self.above
            yield from super().get_renderables()

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    text_column = TextColumn("{task.fields[text]}", markup=False)
    return Bar(*columns, TimeRemainingColumn(), text_column, console=Console(stderr=True), transient=True)


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show a `Progress` during a `with` block."""
    bar = Progress(label, total, done)
    try:
        yield bar
    finally:
        bar.close()
