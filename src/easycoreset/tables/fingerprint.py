"""What tells two data sets apart."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def fingerprint(sample_ids: Sequence[str], labels: Ints, contents: Iterable[bytes]) -> str:
    """SHA-256 over (sample_id, label, content hash) in index order, as hex."""
    whole = hashlib.sha256()
    for name, label, content in zip(sample_ids, labels.tolist(), contents, strict=True):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + str(label).encode() + b"\0")
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
