"""Features and probabilities beside a score file, as memory-mapped arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.arrays import open_npy
from easycoreset.errors import UsageError
from easycoreset.records import read_record

RECORD = "features.json"


def file_names(kind: str) -> tuple[str, str]:
    """The files of one kind (clean or adversarial): features, probabilities."""
    tail = "" if kind == "clean" else "_adv"
    return f"features{tail}.npy", f"probabilities{tail}.npy"


def has_features(folder: Path, kind: str, size: int) -> bool:
    """Whether the features of one kind are there and whole beside a table of `size` scores."""
    try:
        if kind not in read_record(folder / RECORD).get("kinds", {}):
            return False
        for name in file_names(kind):
            _open(folder / name, size)
    except UsageError:
        return False
    return True


def read_features(folder: Path, provenance: dict[str, Any], size: int) -> dict[str, Any]:
    """Open the features beside a table of scores, as fields of `Scores`; nothing where none were saved of its split.

    What is wrong with them is `features_problem`, which is raised when a method asks for them.

    Args:
        folder: of the scores.
        provenance: of the scores.
        size: rows of the scores.
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
    theirs = str(record.get("fingerprint", ""))
    own = str(provenance.get("fingerprint", ""))
    if theirs and own and theirs != own:
        raise UsageError(
            f"{folder / RECORD}: features of other data (fingerprint {theirs[:12]}, the scores' "
            f"{own[:12]}); `easycoreset score --save-features` makes them anew"
        )
    found: dict[str, Any] = {"bias": bool(record.get("bias", True))}
    for kind in record.get("kinds", {}):
        for name in file_names(kind):
            found[name.removesuffix(".npy")] = _open(folder / name, size)
    return found


def _open(file: Path, size: int) -> npt.NDArray[np.floating]:
    array = open_npy(file)
    if array.ndim != 2 or len(array) != size or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"{file}: must be [{size}, d] floating, a row a sample; it is {array.shape} {array.dtype}")
    return array
