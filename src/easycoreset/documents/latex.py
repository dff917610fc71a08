"""LaTeX: the tables of a document, for a paper that loads booktabs."""

from typing import Any

from easycoreset.documents import DataTable, Document, Emphasized, format_value, sort_key

ESCAPED = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    "-": "{-}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def render_latex(document: Document) -> str:
    """Render the tables of a document, without their details."""
    shown = [section for section in document.sections if not section.collapsed]
    tables = [table.without_details() for section in shown for table in section.tables if table.rows]
    lines = [f"% {' '.join(document.title.split())}; needs \\usepackage{{booktabs}}"]
    return "\n\n".join([*lines, *map(_table, tables)]) + "\n"


def _table(table: DataTable) -> str:
    blocks = [number for number, name in enumerate(table.columns) if name in table.blocks]
    lines = [_row(table.columns), r"\midrule"]
    for number, row in enumerate(table.rows):
        if number and [row[k] for k in blocks] != [table.rows[number - 1][k] for k in blocks]:
            lines.append(r"\midrule")
        lines.append(_row(row))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{escape(table.caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _row(values: Any) -> str:
    return " & ".join(map(escape, values)) + r" \\"


def escape(value: Any) -> str:
    r"""A value as text in one line, with LaTeX's special characters escaped.

    >>> print(escape("50% of a_b"))
    50\% of a\_b
    """
    text = "".join(ESCAPED.get(character, character) for character in " ".join(format_value(value).split()))
    text = f"$-${text.removeprefix('{-}')}" if sort_key(value) is not None and text.startswith("{-}") else text
    return rf"\textbf{{{text}}}" if isinstance(value, Emphasized) else text
