"""Export of results to formats that other tools read. Each format has one file, and one entry of `FORMATS`."""

from pathlib import Path

from easycoreset.members import load_attribute
from easycoreset.options import ExportOptions, accept_options
from easycoreset.options.exporting import FORMATS

__all__ = ["export"]


@accept_options(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write the contents of `source` to `out` in another format.

    Returns:
        The file or folder written.

    Raises:
        UsageError: the source lacks data that the format needs; nothing is written.
    """
    load_attribute("format", FORMATS[options.format].write)(options)
    return options.out
