"""Progress and the remaining time: a bar in a terminal or a notebook, else lines; all on standard error."""

import contextlib
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from easycoreset.console import escape_control, format_duration, is_output_shown, printable_name

LINE_SECONDS = 15  # between two lines where no bar can be drawn
DELAY = 1  # seconds before a notebook shows a bar, because its text stays in the saved notebook
FIRST_STEPS = 20  # calls before the first line


class _Display(Protocol):
    def show(self, done: int, text: str, above: Any) -> None:
        """Show how many steps are done."""
        ...

    def close(self) -> None:
        """Remove what is shown."""
        ...


class Progress:
    """Progress towards a known total, shown by the command line and in notebooks."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.total = max(total, 1)
        self.done = done
        self.text = ""
        self._display = _open_display(printable_name(label), self.total, done)

    def advance(self, steps: int = 1, text: str | None = None, above: Any = None) -> None:
        """Count `steps` as done; `text` is shown beside the count, `above` is shown above a terminal's bar."""
        self.done += steps
        self.text = self.text if text is None else printable_name(text)
        if self._display is not None:
            self._display.show(self.done, self.text, above)

    def close(self) -> None:
        """Remove the bar."""
        if self._display is not None:
            self._display.close()


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Show a `Progress` during a `with` block."""
    bar = Progress(label, total, done)
    try:
        yield bar
    finally:
        bar.close()


def _open_display(label: str, total: int, done: int) -> _Display | None:
    is_shown = is_output_shown()
    if is_shown:
        return _TerminalBar(label, total, done) if sys.stderr.isatty() else _Lines(label, total, done)
    return _NotebookBar(label, total, done) if is_shown is None and is_in_notebook() else None


def is_in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


class _Lines:
    def __init__(self, label: str, total: int, done: int) -> None:
        self.label = label
        self.total = total
        self._first = done
        self._calls = 0
        self._start = self._printed = time.monotonic()

    def show(self, done: int, text: str, above: Any) -> None:
        """Print a line after some steps, and then at intervals."""
        self._calls += 1
        now = time.monotonic()
        if self._calls != FIRST_STEPS and now - self._printed < LINE_SECONDS:
            return
        self._printed = now
        left = (now - self._start) / (done - self._first) * (self.total - done)
        remaining_text = f", {format_duration(left)} left" if self._calls >= FIRST_STEPS else ""
        line = f"{self.label}: {done}/{self.total}{remaining_text}{'  ' + text if text else ''}"
        print(escape_control(line), file=sys.stderr)

    def close(self) -> None:
        """Lines stay."""


class _TerminalBar:
    def __init__(self, label: str, total: int, done: int) -> None:
        self._bar = _rich_bar()
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, completed=done, text="")

    def show(self, done: int, text: str, above: Any) -> None:
        """Move the bar."""
        self._bar.above = self._bar.above if above is None else above
        self._bar.update(self._task, completed=done, text=text)

    def close(self) -> None:
        """Remove the bar."""
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


class _NotebookBar:
    """tqdm's bar: a widget where ipywidgets is installed (rich shows nothing without it), else text."""

    def __init__(self, label: str, total: int, done: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing ipywidgets
            from tqdm.autonotebook import tqdm
        self._bar: Any = tqdm(desc=label, total=total, initial=done, leave=False, mininterval=0.2, delay=DELAY)

    def show(self, done: int, text: str, above: Any) -> None:
        """Move the bar."""
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
