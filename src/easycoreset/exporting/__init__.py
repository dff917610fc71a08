"""Export of results to formats that other tools read. Each format has one file, and one entry of `FORMATS`."""

from pathlib import Path

from easycoreset.errors import require
from easycoreset.members import load_attribute
from easycoreset.options import ExportOptions, accept_options
from easycoreset.options.exporting import FORMATS
from easycoreset.plan_folders import RESULTS

__all__ = ["export"]


@accept_options(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write the contents of `source` to `out` in another format.

    Returns:
        The file or folder written.

    Raises:
        UsageError: the source lacks data that the format needs; nothing is written.
        RunError: a file cannot be written, a figure cannot be drawn, or the ONNX model does not give the same logits.
    """
    form = FORMATS[options.format]
    is_comparison = (options.source / RESULTS).is_file()
    writer = form.write_comparison if is_comparison and form.write_comparison else form.write
    require(bool(writer), "source", f"the folder of a comparison, for {options.format}", str(options.source))
    require(is_comparison or options.spread == "std", "spread", "for a comparison", options.spread)
    load_attribute("format", writer)(options)
    return options.out
