"""The page: sections of text, figures, tables and images, rendered into one file that needs no network."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from easycoreset.console import format_eps

# Okabe and Ito's palette, distinguishable with any colour vision; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")


@dataclass(frozen=True)
class Figure:
    """A plotly figure and its caption, which screen readers read too."""

    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataTable:
    """A sortable, filterable table; numbers stay numbers, so that they sort as numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class SampleImage:
    """The image of a sample as a data URL, empty where it cannot be shown; `index` where it can be ticked."""

    url: str
    caption: str
    index: int | None = None
    sample_id: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    bullets: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[DataTable] = ()
    galleries: dict[str, Sequence[SampleImage]] = field(default_factory=dict)
    tickable_galleries: dict[str, list[SampleImage]] = field(default_factory=dict)
    code: str = ""
    collapsed: bool = False


def render(title: str, sections: Sequence[Section]) -> str:
    """Render the page; all text is escaped, also in the JSON of figures."""
    environment = Environment(
        loader=PackageLoader("easycoreset.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = to_script_json
    environment.filters["cell"] = format_cell
    library = ""
    if any(section.figures for section in sections):
        from plotly.offline import get_plotlyjs

        library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("page.html").render(title=title, sections=sections, library=library)


def to_script_json(figure: Figure) -> Markup:
    """A figure as JSON that is safe inside <script>: no character of it can end the element."""
    text = json.dumps(_nan_to_null({"data": figure.traces, "layout": figure.layout}), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _nan_to_null(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null, which plotly leaves out."""
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_cell(value: Any) -> str:
    """The text of a table's value."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line_trace(name: str, number: int, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    """A line with markers; `number` chooses one of 64 pairs of colour and symbol."""
    colour = COLOURS[number % len(COLOURS)]
    symbol = SYMBOLS[(number + number // len(COLOURS)) % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": escape_plotly_text(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour},
        "marker": {"color": colour, "symbol": symbol, "size": 9},
        **more,
    }


def escape_plotly_text(text: str) -> str:
    """Text that plotly shows literally; unescaped, <b> would make it bold."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def axes_layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with titles of both axes."""
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, **more}


def eps_layout(radii: Iterable[float]) -> dict[str, Any]:
    """A layout of accuracy over eps; radii that are multiples of 1/255 have ticks such as 8/255."""
    ticks = sorted({0.0, *radii})
    layout = axes_layout("eps", "accuracy, %")
    if any("/255" in format_eps(eps) for eps in ticks):
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": [format_eps(eps) for eps in ticks]}
    return layout


def error_bars(values: Sequence[float]) -> dict[str, Any]:
    """Error bars."""
    return {
        "type": "data",
        "array": list(values),
        "thickness": 1.2,
        "width": 3,
    }
