"""Exact duplicates of images, by the hash of their pixels."""

import hashlib

import numpy as np
import numpy.typing as npt

from easycoreset.data import Split
from easycoreset.progress import progress


def find_duplicates(
    split: Split, test: Split | None, batch_size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each sample, the first one with the same pixels (-1: itself), and whether the test split has it too.

    Args:
        split: the samples.
        test: the part that should not share them; None, or the same split: not compared.
        batch_size: images a batch.
    """
    first_rows: dict[bytes, int] = {}
    digests = hash_images(split, batch_size)
    duplicate_of = np.full(len(digests), -1, np.int64)
    for row, digest in enumerate(digests):
        first_row = first_rows.setdefault(digest, row)
        duplicate_of[row] = first_row if first_row != row else -1
    test_digests = set() if test is None or test.name == split.name else set(hash_images(test, batch_size))
    return duplicate_of, np.array([digest in test_digests for digest in digests], bool)


def hash_images(split: Split, batch_size: int) -> list[bytes]:
    """Hash every image of a split, as the model gets it."""
    digests: list[bytes] = []
    with progress(f"looking for duplicates in {split.name}", len(split)) as bar:
        for batch in split.batches(np.arange(len(split), dtype=np.int64), batch_size):
            pixels = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
            digests += [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels]
            bar.advance(len(batch.index))
    return digests
