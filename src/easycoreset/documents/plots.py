"""Traces and layouts of plotly figures."""

from collections.abc import Iterable, Sequence
from typing import Any

from easycoreset.console import format_eps

# Okabe and Ito's palette, distinguishable with any colour vision; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")


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
