"""Published coresets: `file:PATH` names a coreset table, or a list of indices or sample ids."""

from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.errors import UsageError, quote
from easycoreset.sample_lists import read_list_file, to_integer
from easycoreset.tables import Coreset, Ints, Scores, check_same_data


def read_published(path: Path, scores: Scores) -> Coreset:
    """Read a coreset from a file: .parquet as `select` writes it, or a list in .txt, .csv, .json, .npy or .npz.

    Args:
        path: the file.
        scores: scores of the data that it must belong to; only sample ids, labels and fingerprint are used.

    Raises:
        UsageError: the file is missing, unreadable or of other data, or has an invalid, unknown or repeated sample.
    """
    if path.suffix == ".parquet":
        coreset = Coreset.read(path)
        fingerprint = scores.provenance.get("fingerprint", "")
        split = scores.provenance.get("split", "train")
        samples = (coreset.sample_ids, coreset.labels)
        expected = (scores.sample_ids, scores.labels)
        check_same_data(coreset.provenance, fingerprint, split, f"coreset {path}", samples, expected)
        order = np.argsort(np.where(coreset.keep, coreset.rank, np.iinfo(np.int64).max))[: len(coreset)]
        return Coreset.from_order(order, scores, coreset.weight[order])
    return Coreset.from_order(_rows(path, read_list_file(path, f"method file:{path}", len(scores)), scores), scores)


def read_sample_list(option: str, path: Path, scores: Scores) -> Coreset:
    """Read a list of samples for an option; errors name the option."""
    try:
        return read_published(path, scores)
    except UsageError as error:
        raise UsageError(f"{option}: {str(error).removeprefix('method ')}") from None


def _rows(path: Path, values: list[Any], scores: Scores) -> Ints:
    """The rows of a list: of sample ids if all values are ids, else of indices.

    Raises:
        UsageError: a value that is neither, out of range, or named twice.
    """
    if not values:
        raise UsageError(f"method file:{path}: holds no index")
    row_of = {name: row for row, name in enumerate(scores.sample_ids)}
    if all(str(value) in row_of for value in values):
        rows = np.array([row_of[str(value)] for value in values], np.int64)
    else:
        try:
            rows = np.array([to_integer(value) for value in values], np.int64)
        except (TypeError, ValueError, OverflowError):
            invalid = next(str(value) for value in values if not _is_index(value))
            raise UsageError(
                f"method file:{path}: {quote(invalid)} is neither an index nor a sample id of this data"
            ) from None
    outside = rows[(rows < 0) | (rows >= len(scores))]
    if len(outside):
        raise UsageError(f"method file:{path}: index must be in 0..{len(scores) - 1}; got {outside[0]}")
    if len(np.unique(rows)) != len(rows):
        raise UsageError(f"method file:{path}: a sample is named twice")
    return rows


def _is_index(value: Any) -> bool:
    try:
        to_integer(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
