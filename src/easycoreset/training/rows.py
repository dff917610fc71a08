"""The training rows: all samples or those of a coreset, without the held-out ones."""

import numpy as np

from easycoreset.data import Source
from easycoreset.errors import UsageError
from easycoreset.options import RecipeOptions
from easycoreset.tables import Coreset, Floats, Ints
from easycoreset.tables.holdout import hold_out
from easycoreset.tables.matching import match_coreset, require_same_data


def training_rows(options: RecipeOptions, source: Source) -> tuple[Ints, Floats | None]:
    """The indices of the training samples, ascending, and the weights of all samples, or None if they are equal.

    Raises:
        UsageError: the coreset is of other data.
    """
    split = source.splits["train"]
    if options.coreset is None:
        return np.arange(len(split), dtype=np.int64), None
    coreset = Coreset.read(options.coreset)
    description = f"coreset {options.coreset}"
    if options.allow_subset:
        coreset = match_coreset(coreset, split, source.class_names, description)
    else:
        require_same_data(coreset, split, description)
    uniform = np.all(coreset.weight[coreset.keep] == 1)
    return coreset.index, None if uniform else np.nan_to_num(coreset.weight)


def hold_out_rows(options: RecipeOptions, source: Source, index: Ints) -> tuple[Ints, Ints]:
    """Split the training rows into training and validation rows; a coreset must not keep any validation row.

    Raises:
        UsageError: the coreset keeps some of them.
    """
    val_fraction: float | None = getattr(options, "val_fraction", None)
    if val_fraction is None:
        return index, np.zeros(0, np.int64)
    _, validation = hold_out(source.splits["train"].labels, val_fraction)
    kept = int(np.isin(index, validation).sum())
    if options.coreset is not None and kept:
        raise UsageError(
            f"val_fraction: the coreset keeps {kept} of the {len(validation)} held-out rows; "
            f"select it with --val-fraction {val_fraction:g} too"
        )
    return np.setdiff1d(index, validation), validation
