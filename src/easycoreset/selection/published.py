"""Coresets that somebody published: `file:PATH` names a coreset, or a list of indices or sample ids."""

from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.errors import UsageError, quote
from easycoreset.lists import read_list, whole_number
from easycoreset.tables import Coreset, Ints, Scores, check_same_data


def read_published(path: Path, scores: Scores) -> Coreset:
    """The coreset that a file holds: .parquet as `select` writes it, or a list in .txt, .csv, .json, .npy or .npz.

    Args:
        path: the file.
        scores: of the data that it must belong to; only ids, labels and fingerprint are looked at.

    Raises:
        UsageError: missing, broken, of other data, an index out of range, an unknown id, or one named twice.
    """
    if path.suffix == ".parquet":
        coreset = Coreset.read(path)
        mark = scores.provenance.get("fingerprint", "")
        split = scores.provenance.get("split", "train")
        own = (coreset.sample_ids, coreset.labels)
        other = (scores.sample_ids, scores.labels)
        check_same_data(coreset.provenance, mark, split, f"coreset {path}", own, other)
        order = np.argsort(np.where(coreset.keep, coreset.rank, np.iinfo(np.int64).max))[: len(coreset)]
        return Coreset.from_order(order, scores, coreset.weight[order])
    return Coreset.from_order(_rows(path, read_list(path, f"method file:{path}", len(scores)), scores), scores)


def read_listed(option: str, path: Path, scores: Scores) -> Coreset:
    """The same for an option that names a list of samples."""
    try:
        return read_published(path, scores)
    except UsageError as error:
        raise UsageError(f"{option}: {str(error).removeprefix('method ')}") from None


def _rows(path: Path, values: list[Any], scores: Scores) -> Ints:
    """The rows that a list names: sample ids where all are such, else indices.

    Raises:
        UsageError: a value that is neither, out of range, or named twice.
    """
    if not values:
        raise UsageError(f"method file:{path}: holds no index")
    known = {name: row for row, name in enumerate(scores.sample_ids)}
    if all(str(value) in known for value in values):
        rows = np.array([known[str(value)] for value in values], np.int64)
    else:
        try:
            rows = np.array([whole_number(value) for value in values], np.int64)
        except (TypeError, ValueError, OverflowError):
            strange = next(str(value) for value in values if not _is_index(value))
            raise UsageError(
                f"method file:{path}: {quote(strange)} is neither an index nor a sample id of this data"
            ) from None
    outside = rows[(rows < 0) | (rows >= len(scores))]
    if len(outside):
        raise UsageError(f"method file:{path}: index must be in 0..{len(scores) - 1}; got {outside[0]}")
    if len(np.unique(rows)) != len(rows):
        raise UsageError(f"method file:{path}: a sample is named twice")
    return rows


def _is_index(value: Any) -> bool:
    try:
        whole_number(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
