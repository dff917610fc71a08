"""A fragment of HTML: sections of a document for a notebook's cell, without figures, scripts and styles of a page."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from easycoreset.documents import DataTable, Emphasized, Section, format_value
from easycoreset.python_objects import name_briefly


def render_fragment(sections: Sequence[Section]) -> str:
    """Render the text, the tables and the images of sections; all text is escaped."""
    return name_briefly("\n".join(part for section in sections for part in _parts(section)))


def _parts(section: Section) -> Iterator[str]:
    yield f"<h4>{escape(section.title)}</h4>"
    yield from (f"<p>{escape(text)}</p>" for text in section.paragraphs)
    if section.bullets:
        yield f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in section.bullets)}</ul>"
    yield from (_table(table.without_details()) for table in section.tables if table.rows)
    for title, images in section.galleries.items():
        shown = "".join(
            f'<img src="{escape(image.url)}" title="{escape(image.caption)}" alt="{escape(image.caption)}" '
            'style="width:48px;display:inline-block;margin:1px;image-rendering:pixelated">'
            for image in images
        )
        yield f'<div style="display:inline-block;margin-right:2em"><small>{escape(title)}</small><br>{shown}</div>'


def _table(table: DataTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    text = escape(format_value(value))
    return f"<td><b>{text}</b></td>" if isinstance(value, Emphasized) else f"<td>{text}</td>"
