"""The results of a comparison for a paper, and in a notebook."""

import csv
import re

import numpy as np
import pytest
from grids import SMALL

from easycoreset import Coreset, Scores, UsageError, choose, export
from easycoreset.documents import Emphasized, MeanInterval
from easycoreset.documents.latex import escape
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.reporting.notebook import plot_comparison
from easycoreset.reporting.paper_table import make_paper_table
from easycoreset.statistics import estimate
from easycoreset.workflow.comparing import Comparison


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    from easycoreset.cli import main
    from support import inline_pool

    folder = tmp_path_factory.mktemp("paper") / "a_grid"
    with pytest.MonkeyPatch.context() as patch:
        inline_pool.use(patch, always=True)
        arguments = ["0.1,0.05" if value == "0.1" else value for value in SMALL]
        assert main(["compare", *arguments, "--out", str(folder)]) == 0
    return folder


def rows_of(table):
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_means_and_bold_are_those_of_the_outcomes(grid):
    found = ComparisonResults(grid)
    (setting,) = found.outcomes.grid
    for spread in ("std", "interval"):
        rows = {row["method"]: row for row in rows_of(make_paper_table(found, spread))}
        assert set(rows) == {"random", "easycore", "full"}
        for column, eps in (("clean", None), ("eps 0.05", 0.05), ("eps 0.1", 0.1)):
            arrays = {}
            for method in rows:
                row = found.outcomes.row(setting, (method, 3), eps or found.outcomes.main_eps(setting))
                arrays[method] = (row.clean if eps is None else row.robust).astype(float)
            best = max(arrays, key=lambda method: arrays[method].mean())
            for method, array in arrays.items():
                cell = rows[method][column]
                value = cell.value if isinstance(cell, Emphasized) else cell
                assert value.mean == pytest.approx(100 * array.mean())
                if isinstance(value, MeanInterval):
                    assert value.low == pytest.approx(100 * estimate(array).low, nan_ok=True)
                else:
                    assert value.std == pytest.approx(100 * array.mean(1).std(ddof=1))
                gap = estimate(arrays[best] - array)
                is_told = gap.mean > 0 if np.isnan(gap.low) else gap.low > 0
                assert isinstance(cell, Emphasized) == (method == best or not is_told), (method, column)


def test_latex_is_escaped_and_balanced(grid, tmp_path):
    """No TeX runs here: braces and environments are balanced, every special character is escaped, rows are as wide."""
    text = export(grid, format="latex", out=tmp_path / "t.tex").read_text()
    body = re.sub(r"\\[\\%&#_${}]|\\textasciicircum\{\}", "", text.split("\n", 1)[1])
    assert body.count("{") == body.count("}") and not re.search(r"[%#_]", body) and body.count("$") % 2 == 0
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 4 and len({re.sub(r"\\&", "", line).count("&") for line in lines}) == 1
    assert r"\textbf{" in text and "fgsm" in text and "359 at eps 0.1" in text
    assert escape(Emphasized("a_b & c")) == r"\textbf{a\_b \& c}"


def test_markdown_and_csv_hold_the_same_table(grid, tmp_path):
    rows = {row["method"]: row for row in rows_of(make_paper_table(ComparisonResults(grid)))}
    lines = export(grid, format="markdown", out=tmp_path / "t.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 5 and "Bold" in lines[0]
    with export(grid, format="csv", out=tmp_path / "t.csv").open() as stream:
        read = {row["method"]: row for row in csv.DictReader(stream)}
    for method, row in rows.items():
        value = row["clean"].value if isinstance(row["clean"], Emphasized) else row["clean"]
        assert float(read[method]["clean mean"]) == pytest.approx(value.mean, abs=1e-4)
        assert read[method]["clean best"] == str(isinstance(row["clean"], Emphasized)).lower()


def test_other_folders_are_refused(grid, scored, tmp_path):
    for source, form in ((scored, "latex"), (scored, "figures"), (scored, "markdown")):
        with pytest.raises(UsageError, match=rf"source.*comparison.*{form}"):
            export(source, format=form, out=tmp_path / f"x{'.tex' if form == 'latex' else '.md'}")
    with pytest.raises(UsageError, match="spread"):
        export(scored, format="index", out=tmp_path / "x.txt", spread="interval")


def test_results_show_themselves_in_notebooks(grid, scored, tmp_path):
    found = ComparisonResults(grid)
    comparison = Comparison(results=found.results, contrasts=found.contrasts, out=grid)
    scores = Scores.read(scored)
    coreset = choose(scores, method="random", fraction=0.3)
    shown = comparison._repr_html_(), scores._repr_html_(), coreset._repr_html_()
    for html in shown:
        assert html.count("<table>") == html.count("</table>") >= 1 and "<script" not in html
    assert "aign" in shown[1] and shown[1].count("<img") == 80 and "431 of 1438 samples" in shown[2]
    assert len(comparison.plot().data) == 3 and sum(comparison.to_pandas()["method"] == "full") == 4
    assert sum(scores.plot().data[0].y) == 1438 and sum(scores.plot("loss").data[0].y) == 1438
    before, kept = coreset.plot().data
    assert (sum(before.y), sum(kept.y)) == (1438, 431)
    with pytest.raises(UsageError, match=r"number.*0\.\.0"):
        plot_comparison(comparison, 1)
    with pytest.raises(UsageError, match="alien"):
        scores.plot("alien")
    named = Coreset.from_order(np.arange(3), Scores(**vars(scores) | {"class_names": ["<i>"] * 10}))
    assert "&lt;i&gt;" in named._repr_html_() and "<i>" not in named._repr_html_()


@pytest.mark.browser
@pytest.mark.slow
def test_figures_are_drawn_as_svg_and_pdf(grid, tmp_path):
    folder = export(grid, format="figures", out=tmp_path / "figures")
    names = sorted(file.stem for file in folder.glob("*.svg"))
    assert names == sorted(file.stem for file in folder.glob("*.pdf")) and "01-clean-against-robust-accuracy" in names
    captions = (folder / "captions.md").read_text()
    assert all(f"`{name}`" in captions for name in names)
    assert all((folder / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)
    assert "robust accuracy at eps" in (folder / "01-clean-against-robust-accuracy.svg").read_text()
