"""Fingerprint of a data set."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def fingerprint(sample_ids: Sequence[str], labels: Ints, contents: Iterable[bytes]) -> str:
    """SHA-256 over (sample_id, label, content hash) in index order, as hex."""
    digest = hashlib.sha256()
    for sample_id, label, content in zip(sample_ids, labels.tolist(), contents, strict=True):
        digest.update(sample_id.encode("utf-8", "surrogateescape") + b"\0" + str(label).encode() + b"\0")
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
