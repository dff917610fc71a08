"""The page: sections of text, figures, tables and pictures, rendered into one file that needs no network."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from easycoreset.console import say_eps

# Okabe and Ito's palette: told apart by people with any colour vision; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")


@dataclass(frozen=True)
class Figure:
    """A plotly figure and what it shows, in words for those who do not see it."""

    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A sortable, filterable table; numbers stay numbers, so that they sort as numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Picture:
    """A picture of a sample; `index` where it can be ticked, no `data` where it cannot be shown."""

    data: str
    name: str
    index: int | None = None
    sample_id: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Grid] = ()
    galleries: dict[str, Sequence[Picture]] = field(default_factory=dict)
    ticks: dict[str, list[Picture]] = field(default_factory=dict)
    code: str = ""
    folded: bool = False


def render(title: str, sections: Sequence[Section]) -> str:
    """Render the page; everything is escaped, also inside the inlined JSON."""
    environment = Environment(
        loader=PackageLoader("easycoreset.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = to_script_json
    environment.filters["cell"] = show_cell
    library = ""
    if any(section.figures for section in sections):
        from plotly.offline import get_plotlyjs

        library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("page.html").render(title=title, sections=sections, library=library)


def to_script_json(figure: Figure) -> Markup:
    """A figure as JSON that can stand inside <script>: no character of it can end the element."""
    text = json.dumps(_finite({"data": figure.data, "layout": figure.layout}), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: null, which plotly leaves out."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_cell(value: Any) -> str:
    """A table's value for people."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line(name: str, place: int, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    """A line with markers in the method's own pair of colour and symbol, of which there are 64."""
    colour = COLOURS[place % len(COLOURS)]
    symbol = SYMBOLS[(place + place // len(COLOURS)) % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour},
        "marker": {"color": colour, "symbol": symbol, "size": 9},
        **more,
    }


def plain(text: str) -> str:
    """Text that plotly shows as it is: it would take <b> for bold."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def axes(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with both axes named."""
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, **more}


def over_eps(radii: Iterable[float]) -> dict[str, Any]:
    """A layout of accuracy over eps; radii in steps of a pixel's value are named as people write them."""
    ticks = sorted({0.0, *radii})
    layout = axes("eps", "accuracy, %")
    if any("/255" in say_eps(eps) for eps in ticks):
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": [say_eps(eps) for eps in ticks]}
    return layout


def errors(values: Sequence[float]) -> dict[str, Any]:
    """Error bars."""
    return {
        "type": "data",
        "array": list(values),
        "thickness": 1.2,
        "width": 3,
    }
