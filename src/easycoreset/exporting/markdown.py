"""Markdown of cards: tables, and names that stay what they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.versions import versions


def cell(value: Any) -> str:
    r"""A value as text in one cell of a table, whatever characters it holds.

    >>> print(cell("a|b\n<c>"), cell(0.12345678), cell(None))
    a\|b &lt;c> 0.1235 -
    """
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value) or "-"
    text = " ".join(str(value).split())
    for sign in "\\`*_[]|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *[[cell(value) for value in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def facts(known: Mapping[str, Any]) -> str:
    """A table of names and values, without those that are not known."""
    return table(["what", "value"], [[name, value] for name, value in known.items() if value is not None])


def listed(sentences: Sequence[str]) -> str:
    """A list of sentences, which may hold names of others."""
    return "".join(f"- {cell(sentence)}\n" for sentence in sentences)


def block(lines: Sequence[str]) -> str:
    """Commands, in a fence that none of them closes."""
    text = "\n".join(lines)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}\n"


def page(title: str, sections: Mapping[str, str]) -> str:
    """A card: its title, sections that hold something, and what wrote it."""
    parts = [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    end = f"Written by easycoreset {versions().get('easycoreset', '')} (`export --format card`).\n"
    return "\n".join([f"# {cell(title)}\n", *parts, end])
