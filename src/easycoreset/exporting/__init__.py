"""Handing results over in the forms that others read. One form a file, one line of `FORMATS` each."""

from pathlib import Path

from easycoreset.members import find_member
from easycoreset.options import ExportOptions, takes

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


@takes(ExportOptions)
def export(options: ExportOptions) -> Path:
    """Write what `source` holds in another form to `out`.

    Returns:
        The file or folder.

    Raises:
        UsageError: the source does not hold what the form needs; nothing is written.
    """
    find_member("format", options.format, FORMATS)(options)
    return options.out
