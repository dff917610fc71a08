"""Columns for a data set of Hugging Face."""

from easycoreset.errors import UsageError
from easycoreset.exporting.places import check_free, fresh_folder
from easycoreset.exporting.sources import read_tables
from easycoreset.options import ExportOptions


def write_dataset(options: ExportOptions) -> None:
    """Hardness, `keep`, `rank` and `weight` as a Hugging Face data set, a row a sample, to be put beside your own.

    With `columns = datasets.load_from_disk(OUT)` and a data set of the same rows in the same order, these are all
    columns in one, and the kept samples:

        both = datasets.concatenate_datasets([data, columns.remove_columns("label")], axis=1)
        kept = easycoreset.Coreset.read("coreset.parquet").apply(both)

    Raises:
        UsageError: no table, or the extra `hf` is missing.
    """
    tables = read_tables(options)
    table = tables.join()
    check_free(options.out)
    try:
        from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError:
        raise UsageError("format hf needs datasets: pip install easycoreset[hf]") from None
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with fresh_folder(options.out, "hf", {"provenance": tables.either.provenance}) as place:
            Dataset(table.replace_schema_metadata(None)).save_to_disk(str(place))
    finally:
        if shown:
            enable_progress_bars()
