"""What pictures hold, by hashes: which of one split are in another too, exactly."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.data.images import MemoryImages
from easycoreset.data.source import Ints, Source, Split

DIGEST = 8  # bytes of a hash


def hash_pictures(split: Split, rows: Ints | None = None) -> list[bytes] | None:
    """A hash of the pixels of some samples, or of all; None where the pictures are not in memory."""
    if not isinstance(split.images, MemoryImages):
        return None
    pixels = split.images.pixels.numpy()
    order: Sequence[int] = range(len(split)) if rows is None else rows.tolist()
    return [hashlib.blake2b(pixels[row].tobytes(), digest_size=DIGEST).digest() for row in order]


def find_leaked(source: Source) -> npt.NDArray[np.bool_] | None:
    """Which training samples are in the test part too, exactly, [N]; None where none is, or they are not in memory."""
    train, test = (hash_pictures(source.splits[name]) for name in ("train", "test"))
    if train is None or test is None:
        return None
    held = set(test)
    leaked = np.array([mark in held for mark in train], np.bool_)
    return leaked if leaked.any() else None


def describe_contents(split: Split, rows: Ints) -> dict[str, Any]:
    """What `model.json` says of the samples that a model was trained on: how many, of which data, and their hashes."""
    marks = hash_pictures(split, rows)
    held = {} if marks is None else {"hashes": base64.b64encode(b"".join(sorted(marks))).decode()}
    return {"split": split.name, "fingerprint": split.fingerprint, "samples": len(rows), **held}


def find_trained_on(split: Split, rows: Ints, trained: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
    """Which of some samples a model was trained on, by what its record says, [n]; None where that is not known."""
    marks = hash_pictures(split, rows)
    text = trained.get("hashes")
    if marks is None or not isinstance(text, str):
        return None
    try:
        whole = base64.b64decode(text)
    except ValueError:  # damaged
        return None
    held = {whole[place : place + DIGEST] for place in range(0, len(whole), DIGEST)}
    return np.array([mark in held for mark in marks], np.bool_)
