"""Features and probabilities beside a score file, as memory-mapped arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.arrays import open_npy
from easycoreset.errors import UsageError
from easycoreset.records import read_record

RECORD = "features.json"


def feature_file_names(kind: str) -> tuple[str, str]:
    """The file names of features and probabilities of one kind (clean or adversarial)."""
    suffix = "" if kind == "clean" else "_adv"
    return f"features{suffix}.npy", f"probabilities{suffix}.npy"


def has_features(folder: Path, kind: str, size: int) -> bool:
    """Whether the features of one kind are complete beside a table of `size` scores."""
    try:
        if kind not in read_record(folder / RECORD).get("kinds", {}):
            return False
        for name in feature_file_names(kind):
            _open(folder / name, size)
    except UsageError:
        return False
    return True


def read_features(folder: Path, provenance: dict[str, Any], size: int) -> dict[str, Any]:
    """Open the features beside a table of scores, as fields of `Scores`; empty if none were saved for its split.

    An error becomes `features_problem`, which is raised when a method needs the features.

    Args:
        folder: folder of the scores.
        provenance: provenance of the scores.
        size: number of scores.
    """
    if not (folder / RECORD).exists():
        return {}
    try:
        return _read_all(folder, provenance, size)
    except UsageError as error:
        return {"features_problem": str(error)}


def _read_all(folder: Path, provenance: dict[str, Any], size: int) -> dict[str, Any]:
    record = read_record(folder / RECORD)
    if record.get("split", "train") != provenance.get("split", "train"):
        return {}
    fingerprint = str(record.get("fingerprint", ""))
    expected = str(provenance.get("fingerprint", ""))
    if fingerprint and expected and fingerprint != expected:
        raise UsageError(
            f"{folder / RECORD}: features of other data (fingerprint {fingerprint[:12]}, the scores' "
            f"{expected[:12]}); `easycoreset score --save-features` recomputes them"
        )
    fields: dict[str, Any] = {"bias": bool(record.get("bias", True))}
    for kind in record.get("kinds", {}):
        for name in feature_file_names(kind):
            fields[name.removesuffix(".npy")] = _open(folder / name, size)
    return fields


def _open(file: Path, size: int) -> npt.NDArray[np.floating]:
    array = open_npy(file)
    if array.ndim != 2 or len(array) != size or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{file}: must be [{size}, d] floating, one row per sample; got {array.shape} {array.dtype}")
    return array
