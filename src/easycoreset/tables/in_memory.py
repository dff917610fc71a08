"""Scores and coresets in memory in place of a path: written into the temporary folder of this process."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from easycoreset.errors import UsageError
from easycoreset.files import write_json
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import stored_file
from easycoreset.tables.coreset import Coreset
from easycoreset.tables.features import RECORD, feature_file_names
from easycoreset.tables.scores import ARRAYS, Scores


def store_scores(value: Any) -> Path:
    """Write a table of scores, and its features beside it; returns the file.

    Raises:
        UsageError: it is no table of scores.
    """
    if not isinstance(value, Scores):
        raise UsageError(f"scores must be a path or a table of scores (Scores); got {type(value).__name__}")
    digest = _digest(value)
    if value.file is not None and value.file.exists() and _digest(Scores.read(value.file)) == digest:
        return value.file  # beside its features, its models and its record
    file = stored_file(f"scores-{digest[:16]}") / "scores.parquet"
    if file.exists():
        return file
    file.parent.mkdir(exist_ok=True)
    present = [name for name in ARRAYS if getattr(value, name) is not None]
    for name in present:
        np.save(file.with_name(f"{name}.npy"), np.asarray(getattr(value, name)[:]))
    if present:
        kinds = [kind for kind in ("clean", "adversarial") if f"{feature_file_names(kind)[0]}" in _files(present)]
        facts = {name: value.provenance[name] for name in ("split", "fingerprint") if name in value.provenance}
        write_json(file.with_name(RECORD), {**facts, "bias": value.bias, "kinds": {kind: {} for kind in kinds}})
    value.write(file)
    return file


def store_coreset(value: Any) -> Path:
    """Write a coreset; returns the file.

    Raises:
        UsageError: it is no coreset.
    """
    if not isinstance(value, Coreset):
        raise UsageError(
            "coreset must be a path or a Coreset (as of Coreset.from_order(indices, scores)); got "
            f"{type(value).__name__}"
        )
    file = stored_file(f"coreset-{_digest(value)[:16]}.parquet")
    if not file.exists():
        value.write(file)
    return file


def _digest(value: Scores | Coreset) -> str:
    """The digest of a table's content; arrays on disk count by their file and its time of change."""
    content = {item.name: getattr(value, item.name) for item in dataclasses.fields(value) if item.name != "file"}
    for name in (name for name in ARRAYS if content.get(name) is not None):
        path = getattr(content[name], "filename", None)
        content[name] = np.asarray(content[name][:]) if path is None else [str(path), Path(path).stat().st_mtime_ns]
    return digest_object(content)


def _files(names: list[str]) -> list[str]:
    return [f"{name}.npy" for name in names]
