"""Which samples are trained on: all, or a coreset's, without those that are held out."""

import numpy as np

from easycoreset.data import Source
from easycoreset.errors import UsageError
from easycoreset.options import RecipeOptions
from easycoreset.tables import Coreset, Floats, Ints
from easycoreset.tables.holdout import hold_out
from easycoreset.tables.subset import match_coreset, require_same_data


def training_rows(options: RecipeOptions, source: Source) -> tuple[Ints, Floats | None]:
    """The samples that are trained on, ascending, and all samples' weights, or None where they are equal.

    Raises:
        UsageError: a coreset of other data.
    """
    split = source.splits["train"]
    if options.coreset is None:
        return np.arange(len(split), dtype=np.int64), None
    coreset = Coreset.read(options.coreset)
    what = f"coreset {options.coreset}"
    if options.allow_subset:
        coreset = match_coreset(coreset, split, source.class_names, what)
    else:
        require_same_data(coreset, split, what)
    uniform = np.all(coreset.weight[coreset.keep] == 1)
    return coreset.index, None if uniform else np.nan_to_num(coreset.weight)


def hold_out_rows(options: RecipeOptions, source: Source, index: Ints) -> tuple[Ints, Ints]:
    """Take the validation rows out of those that are trained on; a coreset must not keep any of them.

    Raises:
        UsageError: it does.
    """
    share: float | None = getattr(options, "val_fraction", None)
    if share is None:
        return index, np.zeros(0, np.int64)
    _, validation = hold_out(source.splits["train"].labels, share)
    kept = int(np.isin(index, validation).sum())
    if options.coreset is not None and kept:
        raise UsageError(
            f"val_fraction: the coreset keeps {kept} of the {len(validation)} rows that are held out; "
            f"choose it with --val-fraction {share:g} too"
        )
    return np.setdiff1d(index, validation), validation
