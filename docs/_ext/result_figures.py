"""The directive `result-figure`: a figure that the build draws from a committed result, as a report's page draws it."""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from docutils import nodes
from docutils.parsers.rst import Directive
from plotly.offline import get_plotlyjs

from easycoreset.documents import Figure
from easycoreset.documents.page import figure_json
from easycoreset.parquet import read_table
from easycoreset.plan_folders import read_cell
from easycoreset.reporting.analysis import describe_analysis
from easycoreset.reporting.beyond_grid import describe_beyond
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.reporting.figures import draw_curves, draw_frontiers
from easycoreset.statistics import group_results

RESULTS = Path(__file__).parents[2] / "results"
LIBRARY = "plotly.min.js"
OF_0_1 = {"variant": "", "scoring": "", "strong": False, "main": 2 / 255}  # columns that its tables lack


def _of_grid(name: str, draw: Callable[..., list[Figure]]) -> list[Figure]:
    table = read_table(RESULTS / name / "results.parquet", {"method": "text"})
    return draw(group_results(pa.Table.from_pylist([OF_0_1 | row for row in table.to_pylist()])))


def _of_analysis(name: str, number: int) -> list[Figure]:
    return list(describe_analysis(RESULTS / name)[number].figures)


def _beyond_the_ball(name: str) -> list[Figure]:
    found = ComparisonResults(RESULTS / name)
    cells = [cell for cell in (read_cell(found.folder, cell) for cell in found.record["cells"]) if cell is not None]
    return [figure for section in describe_beyond(found.folder, found.outcomes, cells) for figure in section.figures]


FIGURES: dict[str, Callable[[], Sequence[Figure]]] = {
    "cifar10-frontier": lambda: _of_grid("cifar10-quick", draw_frontiers),
    "cifar10-radii": lambda: _of_grid("cifar10-quick", draw_curves),
    "cifar100-frontier": lambda: _of_grid("cifar100-quick", draw_frontiers),
    "certified": lambda: _beyond_the_ball("cifar10-smoothing"),
    "corrupted": lambda: _beyond_the_ball("cifar10-corruptions"),
    "vulnerability": lambda: _of_analysis("analysis-cifar10", 0),
    "margins": lambda: _of_analysis("margins-cifar10", 1),
}


class ResultFigure(Directive):
    """All figures of one name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The figures as raw HTML."""
        figures = FIGURES[self.arguments[0]]()
        text = "".join(_render(figure, f"{self.arguments[0]}-{n}") for n, figure in enumerate(figures))
        return [nodes.raw("", text, format="html")]


def _render(figure: Figure, name: str) -> str:
    caption = html.escape(figure.caption)
    layout = "Object.assign(f.layout, {autosize: true, paper_bgcolor: '#fff', margin: {t: 20}});"
    draw = f"const f = {figure_json(figure)}; {layout} "
    draw += f"Plotly.newPlot('{name}', f.data, f.layout, {{responsive: true, displayModeBar: false}});"
    box = f"<div id='{name}' class='plot' role='img' aria-label='{caption}'></div>"
    script = f"<script>window.addEventListener('load', () => {{ {draw} }});</script>"
    return f"<figure>{box}<figcaption>{caption}</figcaption>{script}</figure>"


def _load_library(app: Any, page: str, template: str, context: Mapping[str, Any], document: Any) -> None:
    """Pages with a figure load plotly."""
    if document is not None and any("class='plot'" in node.astext() for node in document.findall(nodes.raw)):
        app.add_js_file(LIBRARY)


def _write_library(app: Any, error: Exception | None) -> None:
    if error is None:
        (Path(app.outdir) / "_static" / LIBRARY).write_text(get_plotlyjs())


def setup(app: Any) -> Mapping[str, Any]:
    """Register the directive."""
    app.add_directive("result-figure", ResultFigure)
    app.connect("html-page-context", _load_library)
    app.connect("build-finished", _write_library)
    return {"version": "1", "parallel_read_safe": True}
