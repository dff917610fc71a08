"""Hashes of image contents: they find exact copies of images of one split in another."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.data.images import MemoryImages, as_bytes
from easycoreset.data.source import Ints, Source, Split
from easycoreset.data_specs import has_image_files, image_file_paths
from easycoreset.progress import progress

DIGEST_SIZE = 8  # bytes per hash


def hash_images(split: Split, rows: Ints | None = None) -> list[bytes] | None:
    """Hash the pixels of the samples `rows` (None for all); None if the images are not in memory.

    Images of floats that are bytes divided by 255 have the hashes of these bytes.
    """
    if not isinstance(split.images, MemoryImages):
        return None
    images = split.images
    order: Sequence[int] = range(len(split)) if rows is None else rows.tolist()
    return [_digest(as_bytes(images.image(row).numpy()).tobytes()) for row in order]


def hash_any_images(split: Split, batch_size: int) -> list[bytes]:
    """Hash the pixels of all samples, wherever they are, as the model gets them."""
    known = hash_images(split)
    if known is not None:
        return known
    digests: list[bytes] = []
    with progress(f"looking for copies in {split.name}", len(split)) as bar:
        for batch in split.batches(np.arange(len(split), dtype=np.int64), batch_size):
            pixels = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
            digests += [_digest(as_bytes(image).tobytes()) for image in pixels]
            bar.advance(len(batch.index))
    return digests


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest()


def content_digest(data: str, split: Split, row: int) -> str:
    """16 hex digits that name the content of one image: of its file where `data` has image files, else of its pixels.

    Raises:
        OSError: the file is gone or cannot be read.
    """
    if has_image_files(data):
        content = image_file_paths(data, [split.sample_ids[row]])[0].read_bytes()
    else:
        pixels = next(split.batches(np.array([row], np.int64), 1)).x[0].permute(1, 2, 0).contiguous().numpy()
        content = as_bytes(pixels).tobytes()
    return _digest(content).hex()


def find_leaked(source: Source) -> npt.NDArray[np.bool_] | None:
    """Which training samples [N] have an exact copy in the test split; None if none has or images are not in memory."""
    train, test = (hash_images(source.splits[name]) for name in ("train", "test"))
    if train is None or test is None:
        return None
    test_hashes = set(test)
    leaked = np.array([digest in test_hashes for digest in train], np.bool_)
    return leaked if leaked.any() else None


def training_data_record(split: Split, rows: Ints) -> dict[str, Any]:
    """The entry of `model.json` about the training samples: their number, data set and hashes, in their order."""
    digests = hash_images(split, rows)
    joined = {} if digests is None else {"hashes": base64.b64encode(b"".join(digests)).decode()}
    hashes = joined and joined | {"in_order": True}
    return {"split": split.name, "fingerprint": split.fingerprint, "samples": len(rows), **hashes}


def find_training_samples(split: Split, rows: Ints, trained: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
    """Which of the samples `rows` [n] a model was trained on, by its record `trained`; None if that is not known."""
    digests, known = hash_images(split, rows), training_digests(trained)
    if digests is None or known is None:
        return None
    seen = set(known)
    return np.array([digest in seen for digest in digests], np.bool_)


def training_digests(trained: dict[str, Any]) -> list[bytes] | None:
    """The hashes of the samples that a model was trained on, by its record `trained`; None if they are not known.

    They are in the samples' order where the record says `in_order`.
    """
    text = trained.get("hashes")
    try:
        joined = base64.b64decode(text) if isinstance(text, str) else b""
    except ValueError:  # damaged
        return None
    return [joined[start : start + DIGEST_SIZE] for start in range(0, len(joined), DIGEST_SIZE)] or None
