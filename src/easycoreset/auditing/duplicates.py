"""Pictures that are there more than once, exactly, by the hash of their pixels."""

import hashlib

import numpy as np
import numpy.typing as npt

from easycoreset.console import progress
from easycoreset.data import Split


def find_duplicates(
    split: Split, test: Split | None, batch_size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each sample the first one with the same pixels (-1: itself is the first), and whether it is in the test part.

    Args:
        split: the samples.
        test: where else they should not be; None, or the same split: not looked at.
        batch_size: pictures a batch.
    """
    first: dict[bytes, int] = {}
    marks = hashes(split, batch_size)
    twins = np.full(len(marks), -1, np.int64)
    for row, mark in enumerate(marks):
        twin = first.setdefault(mark, row)
        twins[row] = twin if twin != row else -1
    held = set() if test is None or test.name == split.name else set(hashes(test, batch_size))
    return twins, np.array([mark in held for mark in marks], bool)


def hashes(split: Split, batch_size: int) -> list[bytes]:
    """A hash of every picture, as it is trained on."""
    found: list[bytes] = []
    with progress(f"looking for duplicates in {split.name}", len(split)) as bar:
        for batch in split.batches(np.arange(len(split), dtype=np.int64), batch_size):
            pixels = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
            found += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
            bar.advance(len(batch.index))
    return found
