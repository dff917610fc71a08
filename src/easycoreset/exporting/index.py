"""List of the indices that a coreset keeps."""

from pathlib import Path

import numpy as np

from easycoreset.exporting.source_tables import read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.tables import Coreset, Ints


def write_index(options: ExportOptions) -> None:
    """Write the indices of the kept samples in rank order: one per line (.txt), or `index, sample_id, weight` (.npz).

    Raises:
        UsageError: the source holds no coreset.
    """
    coreset = read_tables(options).require_coreset("index")
    order = sort_kept_by_rank(coreset)
    if options.out.suffix == ".txt":
        text = "".join(f"{row}\n" for row in order)
        write_new(options.out, lambda path: path.write_text(text))
        return
    sample_ids = np.array([coreset.sample_ids[row] for row in order], np.str_)

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, index=order, sample_id=sample_ids, weight=coreset.weight[order])

    write_new(options.out, write)


def sort_kept_by_rank(coreset: Coreset) -> Ints:
    """Indices of the kept samples, ordered by ascending rank."""
    kept = coreset.index
    return kept[np.argsort(coreset.rank[kept], kind="stable")]
