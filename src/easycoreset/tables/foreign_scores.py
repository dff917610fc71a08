"""Scores from elsewhere in an `.npz` file, such as C-scores: their order is checked, their sign is found and logged."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from easycoreset.arrays import list_npz, read_npz
from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.tables.agreement import spearman
from easycoreset.tables.same_data import Floats, Ints

REFERENCE = "aign"  # the column that tells which end is hard, if it is there


def read_foreign_scores(path: Path, columns: Mapping[str, Floats], labels: Ints) -> dict[str, Floats]:
    """Read arrays of N numbers as hardness; an array that falls as hardness rises is negated and named `-NAME`.

    The rows must be in index order. If the file has `labels`, as the file of the C-scores of Jiang et al. (ICML 2021)
    has, they must equal those of the table.

    Args:
        path: an .npz file.
        columns: columns of the table that the file is compared with; `aign`, or else the first, tells which end is
            hard.
        labels: [N] labels of that table.

    Raises:
        UsageError: an unreadable file, no array of N numbers, or labels in another order.
    """
    arrays = read_npz(path, list_npz(path, "compare"), "compare")
    given = next((array for name, array in arrays.items() if name.lower() in ("label", "labels")), None)
    if given is not None and (given.shape != labels.shape or not np.array_equal(given, labels)):
        wrong = int((given != labels).sum()) if given.shape == labels.shape else len(labels)
        raise UsageError(
            f"compare: {path}: the labels of {wrong} of {len(labels)} samples differ: another order or data"
        )
    found = {name: array for name, array in arrays.items() if array.shape == labels.shape and array is not given}
    numbers = {name: array.astype(np.float32) for name, array in found.items() if array.dtype.kind in "fiu"}
    if not numbers:
        raise UsageError(f"compare: {path} must hold an array of {len(labels)} numbers; it has {quote(list(arrays))}")
    order = "its labels are the table's" if given is not None else "it has no labels: taken to be in index order"
    reference = columns[REFERENCE if REFERENCE in columns else next(iter(columns))]
    turned: dict[str, Floats] = {}
    for name, values in numbers.items():
        falls = _correlate(values, reference) < 0
        turned[f"-{name}" if falls else name] = -values if falls else values
        log.info("%s: %s %s with hardness; %s", path, name, "falls, and is negated," if falls else "rises", order)
    return turned


def _correlate(values: Floats, reference: Floats) -> float:
    known = np.isfinite(values) & np.isfinite(reference)
    return spearman(values[known], reference[known])
