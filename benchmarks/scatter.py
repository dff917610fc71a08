"""A log-log scatter as an SVG."""

import math
from collections.abc import Sequence
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73")
WIDTH = 640
HEIGHT = 420
LEFT = 70
RIGHT = 50
TOP = 40
BOTTOM = 60
FONT = 'font-family="sans-serif" font-size="12"'
Point = tuple[float, float]
Points = Sequence[Point]


def scatter(title: str, x_title: str, y_title: str, series: dict[str, Points]) -> str:
    """Points of each series, positive, joined by lines, with a line of slope one through the first of each."""
    straight = {name: _proportional(points) for name, points in series.items()}
    xs, ys = zip(*(point for drawn in (series, straight) for points in drawn.values() for point in points), strict=True)
    (x_low, x_high) = _decades(xs)
    (y_low, y_high) = _decades(ys)

    def place(x: float, y: float) -> Point:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    turned = f'text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, title, "middle"),
        _text(WIDTH / 2, HEIGHT - 12, x_title, "middle"),
        f'<text x="16" y="{HEIGHT / 2}" {turned}>{escape(y_title)}</text>',
    ]
    for power in range(x_low, x_high + 1):
        x, _ = place(10.0**power, 10.0**y_low)
        parts.append(_line((x, TOP), (x, HEIGHT - BOTTOM), "#ddd"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{10.0**power:,.{max(-power, 0)}f}", "middle"))
    for power in range(y_low, y_high + 1):
        _, y = place(10.0**x_low, 10.0**power)
        parts.append(_line((LEFT, y), (WIDTH - RIGHT, y), "#ddd"))
        parts.append(_text(LEFT - 6, y + 4, f"{10.0**power:,.{max(-power, 0)}f}", "end"))
    for number, (name, points) in enumerate(series.items()):
        drawn, dashed = ([place(*point) for point in some] for some in (points, straight[name]))
        parts += _series(name, drawn, dashed, number)
    return "\n".join([*parts, "</svg>\n"])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values, two different ones."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _proportional(points: Points) -> Points:
    """The first point, and the last as it would be if y grew as x does."""
    (x0, y0) = points[0]
    (x1, _) = points[-1]
    return [(x0, y0), (x1, y0 * x1 / x0)]


def _series(name: str, points: Points, straight: Points, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [
        _line(*straight, colour, ' stroke-dasharray="4 4"'),
        f'<polyline points="{path}" fill="none" stroke="{colour}"/>',
    ]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
    y = TOP + 16 + 18 * number
    parts.append(f'<circle cx="{LEFT + 14}" cy="{y - 4}" r="4" fill="{colour}"/>')
    return [*parts, _text(LEFT + 24, y, name, "start")]


def _line(start: Point, end: Point, colour: str, more: str = "") -> str:
    (x1, y1) = start
    (x2, y2) = end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
