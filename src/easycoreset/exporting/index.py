"""The samples that a coreset keeps, as a list."""

from pathlib import Path

import numpy as np

from easycoreset.exporting.sources import read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.tables import Coreset, Ints


def write_index(options: ExportOptions) -> None:
    """The indices a coreset keeps, first choice first: a line each (.txt), or `index, sample_id, weight` (.npz).

    Raises:
        UsageError: the source holds no coreset.
    """
    coreset = read_tables(options).need_coreset("index")
    order = in_rank_order(coreset)
    if options.out.suffix == ".txt":
        text = "".join(f"{row}\n" for row in order)
        write_new(options.out, lambda path: path.write_text(text))
        return
    names = np.array([coreset.sample_ids[row] for row in order], np.str_)

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, index=order, sample_id=names, weight=coreset.weight[order])

    write_new(options.out, write)


def in_rank_order(coreset: Coreset) -> Ints:
    """Indices of the kept samples, first choice first."""
    kept = coreset.index
    return kept[np.argsort(coreset.rank[kept], kind="stable")]
