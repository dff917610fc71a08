"""Markdown of cards: tables, lists, code blocks, and escaping of special characters."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.versions import versions


def escape_cell(value: Any) -> str:
    r"""A value as the text of one table cell, with Markdown's special characters escaped.

    >>> print(escape_cell("a|b\n<c>"), escape_cell(0.12345678), escape_cell(None))
    a\|b &lt;c> 0.1235 -
    """
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(escape_cell(item) for item in value) or "-"
    text = " ".join(str(value).split())
    for character in "\\`*_[]|":
        text = text.replace(character, f"\\{character}")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *[[escape_cell(value) for value in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def key_value_table(values: Mapping[str, Any]) -> str:
    """A table of names and values, without those that are None."""
    return markdown_table(["name", "value"], [[name, value] for name, value in values.items() if value is not None])


def bullet_list(sentences: Sequence[str]) -> str:
    """A bulleted list of sentences, escaped because they may contain names from other files."""
    return "".join(f"- {escape_cell(sentence)}\n" for sentence in sentences)


def code_block(commands: Sequence[str]) -> str:
    """A code block of commands, with a fence that is longer than any fence in them."""
    text = "\n".join(commands)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}\n"


def card_page(title: str, sections: Mapping[str, str]) -> str:
    """A card: its title, the sections that are not empty, and the version that wrote it."""
    parts = [f"## {name}\n\n{text}" for name, text in sections.items() if text]
    footer = f"Written by easycoreset {versions().get('easycoreset', '')} (`export --format card`).\n"
    return "\n".join([f"# {escape_cell(title)}\n", *parts, footer])
