"""Columns for a Hugging Face data set."""

from easycoreset.errors import UsageError
from easycoreset.exporting.output_folders import check_replaceable, new_output_folder
from easycoreset.exporting.source_tables import read_tables
from easycoreset.options import ExportOptions


def write_dataset(options: ExportOptions) -> None:
    """Write hardness, `keep`, `rank` and `weight` as a Hugging Face data set, one row per sample, to join with yours.

    With `columns = datasets.load_from_disk(OUT)` and a data set `data` of the same rows in the same order, the
    following joins the columns and takes the kept samples:

        both = datasets.concatenate_datasets([data, columns.remove_columns("label")], axis=1)
        kept = easycoreset.Coreset.read("coreset.parquet").apply(both)

    Raises:
        UsageError: the source has no table, or the extra `hf` is missing.
    """
    tables = read_tables(options)
    table = tables.join_tables()
    check_replaceable(options.out)
    try:
        from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError:
        raise UsageError("format hf needs datasets: pip install easycoreset[hf]") from None
    bars_enabled = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with new_output_folder(options.out, "hf", {"provenance": tables.coreset_or_scores.provenance}) as folder:
            Dataset(table.replace_schema_metadata(None)).save_to_disk(str(folder))
    finally:
        if bars_enabled:
            enable_progress_bars()
