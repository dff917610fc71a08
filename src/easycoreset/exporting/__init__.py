"""Export of results to formats that other tools read. Each format has one file and one line of `FORMATS`."""

from pathlib import Path

from easycoreset.members import find_member
from easycoreset.options import ExportOptions, accept_options

__all__ = ["FORMATS", "export"]

FORMATS = {
    "csv": "easycoreset.exporting.csv:write_csv",
    "index": "easycoreset.exporting.index:write_index",
    "folder": "easycoreset.exporting.folder:write_folder",
    "hf": "easycoreset.exporting.huggingface:write_dataset",
    "fiftyone": "easycoreset.exporting.fiftyone:write_samples",
    "cleanlab": "easycoreset.exporting.cleanlab:write_issues",
    "card": "easycoreset.exporting.card:write_card",
    "robustbench": "easycoreset.exporting.robustbench:write_model_information",
    "onnx": "easycoreset.exporting.onnx:write_onnx",
}


@accept_options(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write the contents of `source` to `out` in another format.

    Returns:
        The file or folder written.

    Raises:
        UsageError: the source lacks data that the format needs; nothing is written.
    """
    find_member("format", options.format, FORMATS)(options)
    return options.out
