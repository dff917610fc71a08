"""Tables as CSV."""

from easycoreset.exporting.source_tables import cast_dictionaries, read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.spreadsheet import write_csv as fill_csv


def write_csv(options: ExportOptions) -> None:
    """Write scores, a coreset with its hardness, or an audit as CSV, one row per sample, for pandas and other tools.

    Raises:
        UsageError: the source holds no table.
    """
    tables = read_tables(options)
    audit = tables.audit if tables.coreset is None and tables.scores is None else None
    table = tables.join_tables() if audit is None else cast_dictionaries(audit)
    write_new(options.out, lambda path: fill_csv(table, path, options.raw))
