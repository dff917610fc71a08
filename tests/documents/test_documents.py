"""One document in every rendering: each figure of its tables, hostile text as text, nothing that the form cannot hold."""

import math
import re

import pytest

from easycoreset.documents import (
    DataTable,
    Document,
    Figure,
    MeanStd,
    SampleImage,
    Section,
    Share,
    format_value,
    sort_key,
    without_brief,
)
from easycoreset.documents.latex import render_latex
from easycoreset.documents.markdown import render_markdown
from easycoreset.documents.page import render_page
from easycoreset.documents.terminal import print_sections

HOSTILE = r"a_b & 50% | <b>$x$</b> \end{table} `c` #1 ~ ^ {"
TABLE = DataTable(
    "accuracy in %",
    ["method", "kept", "budget", "clean", "p"],
    [
        ["easycore", Share(0.125), "10 updates", MeanStd(97.256, 0.5), 0.00012345],
        ["random", Share(0.5), "10 updates", MeanStd(91.0, math.nan), None],
        [HOSTILE, Share(0.5), "10 updates", None, -3.25],
    ],
    details=["budget"],
    blocks=["kept"],
)
FIGURE = Figure("a figure", [])
DOCUMENT = Document(
    f"title {HOSTILE}",
    [
        Section("Verdict", ["It gains."], bullets=["by 2 points"], tables=[TABLE], figures=[FIGURE], brief=True),
        Section("Details", ["More."], tables=[DataTable("empty", ["a"], [])], code="easycoreset demo", collapsed=True),
        Section("Pictures", ["Look at them."], galleries={"hard": [SampleImage("data:,", "one")]}),
    ],
)


@pytest.mark.parametrize("render", [render_page, render_markdown, render_latex])
def test_every_rendering_has_the_figures_of_the_tables(render):
    text = re.sub("<script.*?</script>", "", render(DOCUMENT), flags=re.DOTALL).replace("$\\pm$", "±")
    for said in ("accuracy in", "easycore", "97.26 ± 0.50", "12.5", "0.0001234", "91.00"):
        assert said in text, said
    assert "nan" not in text and "None" not in text and "MeanStd" not in text


def test_markdown_is_a_card_without_what_it_cannot_show():
    lines = render_markdown(DOCUMENT).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 1 + 1 + 3 and all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert "## Verdict" in lines and "- by 2 points" in lines and "accuracy in %:" in lines
    assert "Pictures" not in " ".join(lines) and "a figure" not in " ".join(lines)
    assert "<b>" not in "".join(lines) and lines.count("```") == 2


def test_latex_has_balanced_rows_and_escapes_all_text():
    comment, text = render_latex(DOCUMENT).split("\n", 1)
    assert comment.startswith("% title ")
    assert (
        text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    )  # the text's own is escaped, and empty ones left out
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 3 and all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)  # without the budget
    assert body.count(r"\midrule") == 2 and "$-$3.25" in body and r"a\_b \& 50\%" in body and "budget" not in text
    opened = len(re.findall(r"(?<!\\)\{", text)) - len(re.findall(r"(?<!\\)\}", text))
    assert opened == 0


def test_the_terminal_shows_the_brief_sections_tables_first(capsys):
    print_sections(DOCUMENT.sections)
    shown = capsys.readouterr().out
    assert shown.index("97.26 ± 0.50") < shown.index("It gains.") < shown.index("by 2 points")
    assert "More." not in shown and "budget" not in shown and "Look" not in shown
    print_sections(without_brief(DOCUMENT.sections))
    assert capsys.readouterr().out == ""


def test_a_narrow_terminal_folds_a_name_and_loses_nothing_of_it(capsys, monkeypatch):
    monkeypatch.setattr("easycoreset.documents.terminal.WIDTH", 40)
    name = "easycore:per_class=true:by=something"
    print_sections([Section("A", tables=[DataTable("c", ["method", "clean"], [[name, 97.25]])], brief=True)])
    cells = "".join(line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert cells == name


def test_values_sort_as_numbers_where_they_are_numbers():
    values = [MeanStd(2.0, 0.1), Share(0.25), 3, "text", None, True]
    assert [sort_key(value) for value in values] == [2.0, 0.25, 3.0, None, None, None]
    assert [format_value(value) for value in (math.nan, [0.5, 2], "x", 12345678.0)] == ["–", "0.5, 2", "x", "1.235e+07"]
