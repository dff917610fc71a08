"""Features from elsewhere (DINO, CLIP, ...): an array in index order, or a table with sample ids."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
# (pyarrow carries no types)

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.arrays import open_npy
from easycoreset.errors import EasycoresetWarning, UsageError, quote
from easycoreset.parquet import integer_column, read_provenance, read_table, string_column
from easycoreset.tables.scores import Scores

KEYS = ("index", "sample_id")
OTHERS = (*KEYS, "label", "label_name", "epoch")  # columns of a table that are no features


def with_features(scores: Scores, path: Path) -> Scores:
    """The table with the features of a file in place of its own.

    Args:
        scores: the table.
        path: an .npy array [N, d] in index order; or a .parquet table whose rows have `sample_id` or `index`, and one
            column of lists or one column for each feature. A fingerprint in its metadata (`easycoreset`, as JSON) must
            be the table's.

    Raises:
        UsageError: the file is unreadable, of other data, or holds no numbers [N, d].
    """
    values, fingerprint, has_ids = _read(path, scores)
    if values.ndim != 2 or len(values) != len(scores) or not np.issubdtype(values.dtype, np.number):
        raise UsageError(f"features: {path} must hold numbers [{len(scores)}, d]; got {values.dtype} {values.shape}")
    expected = str(scores.provenance.get("fingerprint", ""))
    if fingerprint and expected and fingerprint != expected:
        raise UsageError(
            f"features: {path} is of other data (fingerprint {fingerprint[:12]}, the scores' {expected[:12]})"
        )
    if not fingerprint and not has_ids:
        warnings.warn(
            f"features: {path} has no fingerprint: its rows are taken in index order, unchecked",
            EasycoresetWarning,
            stacklevel=2,
        )
    return dataclasses.replace(scores, features=values, features_problem="")


def _read(path: Path, scores: Scores) -> tuple[npt.NDArray[Any], str, bool]:
    """The array in the order of the table, its fingerprint, and whether it was matched by sample ids."""
    if path.suffix == ".npy":
        if not path.exists():
            raise UsageError(f"features: {path}: no such file")
        return open_npy(path), "", False
    if path.suffix != ".parquet":
        raise UsageError(f"features must be a file .npy or .parquet; got {quote(str(path))}")
    table = read_table(path, {})
    fingerprint = str(read_provenance(table, path, None).get("fingerprint", ""))
    has_ids = "sample_id" in table.column_names
    if has_ids:
        row_of = {name: row for row, name in enumerate(string_column(table, "sample_id"))}
        lacking = [name for name in scores.sample_ids if name not in row_of]
        if lacking:
            raise UsageError(f"features: {path} lacks {len(lacking)} samples, {quote(lacking[0])} among them")
        order = np.array([row_of[name] for name in scores.sample_ids], np.int64)
    elif "index" in table.column_names:
        index = integer_column(table, "index", path)
        if not np.array_equal(np.sort(index), np.arange(len(index))):
            raise UsageError(f"features: {path}: index must hold 0..{len(index) - 1} once each")
        order = np.argsort(index)
    else:
        raise UsageError(f"features: {path} needs a column sample_id or index")
    return _matrix(table, path)[order], fingerprint, has_ids


def _matrix(table: pa.Table, path: Path) -> npt.NDArray[Any]:
    """The features of all rows: of a column of lists, or of all columns of numbers."""
    names = [name for name in table.column_names if name not in OTHERS]
    lists = [name for name in names if pa.types.is_nested(table[name].type)]
    if lists:
        rows = [np.asarray(row, np.float32) for row in table[lists[0]].to_pylist()]
        if len({row.shape for row in rows}) != 1:
            raise UsageError(f"features: {path}: the lists of {lists[0]} must be of one length")
        return np.stack(rows)
    kinds = (pa.types.is_floating, pa.types.is_integer)
    numbers = [name for name in names if any(is_kind(table[name].type) for is_kind in kinds)]
    if not numbers:
        raise UsageError(f"features: {path} holds no column of numbers beside its index")
    return np.stack([table[name].to_numpy().astype(np.float32) for name in numbers], 1)
