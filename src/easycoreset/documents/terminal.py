"""The terminal: the brief sections of a document."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from easycoreset.console import escape_control
from easycoreset.documents import DataTable, Section, format_value

WIDTH = 140  # columns, where standard output is no terminal


def print_sections(sections: Sequence[Section]) -> None:
    """Print the brief sections: first their tables, then their text, since the last lines stay in view."""
    brief = [section for section in sections if section.brief]
    for table in (table for section in brief for table in section.tables if table.rows):
        Console(width=None if Console().is_terminal else WIDTH, highlight=False, markup=False).print(to_rich(table))
    for text in (text for section in brief for text in (*section.paragraphs, *section.bullets)):
        print_line(text)


def print_line(text: object) -> None:
    """Print a line of text, with the control characters of class and file names escaped."""
    print(escape_control(text))


def to_rich(table: DataTable) -> Table:
    """A table for rich, without its details, with the control characters of its values escaped."""
    table = table.without_details()
    blocks = [number for number, name in enumerate(table.columns) if name in table.blocks]
    rich_table = Table(title=table.caption or None)
    for name in table.columns:
        rich_table.add_column(name, overflow="fold")
    for number, row in enumerate(table.rows):
        if number and [row[k] for k in blocks] != [table.rows[number - 1][k] for k in blocks]:
            rich_table.add_section()
        rich_table.add_row(*(escape_control(format_value(value)).replace("\n", "\\n") for value in row))
    return rich_table
