"""Merge several score tables: average the seeds of one data set, or concatenate its shards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.errors import UsageError, quote, require
from easycoreset.tables.same_data import Floats, check_same_data

T = TypeVar("T")  # always Scores, which cannot be imported here: its module imports this one


def merge(tables: Sequence[T]) -> T:
    """Merge tables of the same samples (seeds) or of samples that do not overlap (shards).

    Seeds: unweighted means over the finite values; `n_obs` and columns that count events are summed; a column that
    was standardised is standardised again, from the mean of its raw values. Shards: rows are concatenated and indices
    continue.

    Raises:
        UsageError: no table, tables of other data, overlapping shards, or different classes.
    """
    require(len(tables) > 0, "merge", "of at least one table", tables)
    return _merge(tables)


def _merge(tables: Sequence[Any]) -> Any:
    first = tables[0]
    first_ids = set(tables[0].sample_ids)
    shared_counts = [len(first_ids & set(table.sample_ids)) for table in tables[1:]]
    splits = {str(table.provenance.get("split", "train")) for table in tables}
    require(len(splits) == 1, "merge", "of tables of one split", sorted(splits))
    if all(len(table) == len(first) for table in tables) and all(shared == len(first_ids) for shared in shared_counts):
        return _average(tables)
    seen = first_ids
    for number, table in enumerate(tables[1:], 1):
        shared = seen & set(table.sample_ids)
        if shared:
            raise UsageError(
                f"merge: table {number} shares {len(shared)} samples with the tables before it, as "
                f"{quote(min(shared))}: shards must not overlap, and seeds must have the same samples"
            )
        seen |= set(table.sample_ids)
    return _concatenate(tables)


def _shared_columns(tables: Sequence[Any]) -> list[str]:
    """The columns that all tables have; a warning names those that only some have."""
    shared = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    require(len(shared) > 0, "merge", "of tables that share a hardness", [list(table.columns) for table in tables])
    lost = sorted({name for table in tables for name in table.columns} - set(shared))
    if lost:
        log.warning("warning: merged without %s, which not all of the tables have", ", ".join(lost))
    return shared


def _average(tables: Sequence[Any]) -> Any:
    first = tables[0]
    fingerprint = str(first.provenance.get("fingerprint", ""))
    for number, table in enumerate(tables[1:], 1):
        split = str(first.provenance.get("split", "train"))
        samples = (table.sample_ids, table.labels)
        expected = (first.sample_ids, first.labels)
        provenance = (
            table.provenance if fingerprint else {key: v for key, v in table.provenance.items() if key != "fingerprint"}
        )
        check_same_data(provenance, fingerprint, split, f"merge: table {number}", samples, expected)
    columns = {
        name: _average_column([table.columns[name] for table in tables], name in first.provenance.get("counts", ()))
        for name in _shared_columns(tables)
    }
    _standardise_again(columns, first.labels)
    n_obs = np.sum([table.n_obs for table in tables], axis=0, dtype=np.int32)
    provenance = {
        key: first.provenance[key]
        for key in ("fingerprint", "split", "data", "shape", "labels", "counts")
        if key in first.provenance
    }
    return _replace(first, columns=columns, n_obs=n_obs, provenance=provenance | _history(tables))


def _replace(table: Any, **fields: Any) -> Any:
    """The same table with other fields, and without arrays: models of several runs have no features in common."""
    no_arrays = dict.fromkeys(("features", "probabilities", "features_adv", "probabilities_adv"))
    return replace(table, **no_arrays, **fields)


def _standardise_again(columns: dict[str, Floats], labels: npt.NDArray[np.int64]) -> None:
    """Compute the columns that are standardised within each class anew from their raw values."""
    for name in columns:
        if f"{name}_raw" in columns:
            columns[name] = standardise(columns[f"{name}_raw"], labels)


def _average_column(values: Sequence[Floats], counts_events: bool) -> Floats:
    """The mean over the finite values; the sum for a column that counts events."""
    stacked = np.stack(values).astype(np.float64)
    finite = np.isfinite(stacked)
    total = np.where(finite, stacked, 0).sum(0)
    count = finite.sum(0)
    divisor = np.minimum(count, 1) if counts_events else count
    return np.where(count > 0, total / np.maximum(divisor, 1), np.nan).astype(np.float32)


def _concatenate(tables: Sequence[Any]) -> Any:
    first = tables[0]
    for number, table in enumerate(tables[1:], 1):
        same_classes = list(table.class_names) == list(first.class_names)
        require(
            same_classes, f"merge: class names of table {number}", f"{list(first.class_names)}", list(table.class_names)
        )
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in _shared_columns(tables)}
    labels = np.concatenate([table.labels for table in tables])
    _standardise_again(columns, labels)
    ids = [sample_id for table in tables for sample_id in table.sample_ids]
    kept = {name: first.provenance[name] for name in ("split", "counts") if name in first.provenance}
    masks = [table.in_test if table.in_test is not None else np.zeros(len(table), np.bool_) for table in tables]
    in_test = np.concatenate(masks) if any(mask.any() for mask in masks) else None
    return _replace(
        first,
        sample_ids=ids,
        labels=labels,
        in_test=in_test,
        n_obs=np.concatenate([table.n_obs for table in tables]),
        columns=columns,
        provenance=kept | _history(tables),
    )


def _history(tables: Sequence[Any]) -> dict[str, Any]:
    """The provenances of the merged tables, for the provenance of the result."""
    return {"merged": [{key: v for key, v in t.provenance.items() if key != "class_names"} for t in tables]}


def standardise(raw: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Subtract the mean and divide by the standard deviation (ddof 0) of each class; 0 if the class is constant.

    >>> standardise(np.array([1, 3, 5, 5], np.float32), np.array([0, 0, 1, 1])).tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    result = np.full(len(raw), np.nan, np.float32)
    for k in np.unique(labels):
        rows = np.flatnonzero((labels == k) & np.isfinite(raw))
        if len(rows):
            values = raw[rows].astype(np.float64)
            std = values.std()
            result[rows] = (values - values.mean()) / std if std > 0 else 0.0
    return result
