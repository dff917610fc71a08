"""Markdown: a document as a card."""

from collections.abc import Iterator
from typing import Any

from easycoreset.documents import DataTable, Document, Emphasized, Section, format_value
from easycoreset.versions import versions


def render_markdown(document: Document) -> str:
    """Render a document without its figures and galleries; sections without content are left out."""
    shown = [s for s in document.sections if s.tables or s.bullets or s.code or not _has_pictures(s)]
    sections = [(section, "\n\n".join(_parts(section))) for section in shown]
    texts = [f"## {escape(section.title)}\n\n{text}\n" for section, text in sections if text]
    footer = f"Written by easycoreset {versions().get('easycoreset', '')}.\n"
    return "\n".join([f"# {escape(document.title)}\n", *texts, footer])


def _has_pictures(section: Section) -> bool:
    return bool(section.figures or section.galleries or section.review)


def _parts(section: Section) -> Iterator[str]:
    yield from (escape(text) for text in section.paragraphs)
    if section.bullets:
        yield "\n".join(f"- {escape(text)}" for text in section.bullets)
    yield from (render_table(table) for table in section.tables if table.rows)
    if section.code:
        fence = "```"
        while fence in section.code:
            fence += "`"
        yield f"{fence}\n{section.code}\n{fence}"


def render_table(table: DataTable) -> str:
    """A table with its caption."""
    caption = f"{escape(table.caption)}:\n\n" if table.caption else ""
    rows = [[escape(name) for name in table.columns], ["---"] * len(table.columns)]
    rows += [[escape(value) for value in row] for row in table.rows]
    return caption + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escape(value: Any) -> str:
    r"""A value as text in one line, with Markdown's special characters escaped.

    >>> print(escape("a|b\n<c>"), escape(0.12345678))
    a\|b &lt;c> 0.1235
    """
    text = " ".join(format_value(value).split())
    for character in "\\`*_[]|":
        text = text.replace(character, f"\\{character}")
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"**{text}**" if isinstance(value, Emphasized) else text
