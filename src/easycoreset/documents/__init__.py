"""Documents: sections of text, figures, tables and images, made once; the terminal, the page, Markdown and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from easycoreset.console import format_percent
from easycoreset.documents.review import Review


@dataclass(frozen=True)
class Figure:
    """A plotly figure and its caption, which screen readers read too."""

    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataTable:
    """A table; numbers stay numbers, so that they sort as numbers.

    Attributes:
        caption: what it holds.
        columns: names of the columns.
        rows: the values: numbers, text, None for what is unknown, `MeanStd` or `Share`.
        details: columns that are left out where there is little room.
        blocks: columns whose change starts a new block of rows.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    details: Sequence[str] = ()
    blocks: Sequence[str] = ()

    def without_details(self) -> "DataTable":
        """The table without the columns that are details."""
        shown = [number for number, name in enumerate(self.columns) if name not in self.details]
        rows = [[row[number] for number in shown] for row in self.rows]
        return DataTable(self.caption, [self.columns[number] for number in shown], rows, blocks=self.blocks)


@dataclass(frozen=True)
class SampleImage:
    """The image of a sample as a data URL."""

    url: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a document.

    Attributes:
        title: its title.
        paragraphs: sentences.
        bullets: a list of sentences.
        figures: plots, on the page alone.
        tables: tables.
        galleries: title -> images, on the page alone.
        review: pictures to decide on, on the page alone.
        code: text of commands and options.
        collapsed: whether the page shows it on request only.
        brief: whether the terminal shows it.
    """

    title: str
    paragraphs: Sequence[str] = ()
    bullets: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[DataTable] = ()
    galleries: dict[str, Sequence[SampleImage]] = field(default_factory=dict)
    review: Review | None = None
    code: str = ""
    collapsed: bool = False
    brief: bool = False


def without_brief(sections: Sequence[Section]) -> list[Section]:
    """The sections of a part of a larger document, which the terminal does not show."""
    return [replace(section, brief=False) for section in sections]


@dataclass(frozen=True)
class Document:
    """What a result says: a title and sections."""

    title: str
    sections: Sequence[Section]


class MeanStd(NamedTuple):
    """A mean and a standard deviation, NaN where there is one value only; sorted by the mean."""

    mean: float
    std: float


class MeanInterval(NamedTuple):
    """A mean and its interval, NaN where there is none; sorted by the mean."""

    mean: float
    low: float
    high: float


class Emphasized(NamedTuple):
    """A value that stands out."""

    value: Any


class Share(float):
    """A share, shown in percent."""


def format_value(value: Any) -> str:
    """The text of a table's value.

    >>> format_value(None), format_value(0.123456), format_value(MeanStd(97.25, 0.5)), format_value(Share(0.5))
    ('–', '0.1235', '97.25 ± 0.50', '50%')
    """
    if isinstance(value, Emphasized):
        return format_value(value.value)
    if value is None or value != value:
        return "–"
    if isinstance(value, MeanStd):
        return f"{value.mean:.2f}" + (f" ± {value.std:.2f}" if value.std == value.std else "")
    if isinstance(value, MeanInterval):
        return f"{value.mean:.2f}" + (f" [{value.low:.2f}, {value.high:.2f}]" if value.low == value.low else "")
    if isinstance(value, Share):
        return format_percent(value)
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value) or "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sort_key(value: Any) -> float | None:
    """The number by which a table's value is sorted; None for text."""
    value = value.value if isinstance(value, Emphasized) else value
    number = value.mean if isinstance(value, MeanStd | MeanInterval) else value
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None


def list_facts(facts: dict[str, Any], caption: str = "") -> DataTable:
    """A table of names and values, without those that are None."""
    return DataTable(caption, ["name", "value"], [[name, value] for name, value in facts.items() if value is not None])
