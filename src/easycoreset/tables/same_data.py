"""Tells whether two tables are of the same samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.console import printable_name
from easycoreset.errors import UsageError, quote

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
SHOWN = 5  # names in a message


def check_same_data(
    provenance: dict[str, Any],
    fingerprint: str,
    split: str,
    what: str,
    samples: tuple[Sequence[str], Ints],
    expected: tuple[Sequence[str], Ints],
) -> None:
    """Refuse a table of other data; without a fingerprint, sample ids and labels are compared.

    Args:
        provenance: provenance of the table.
        fingerprint: fingerprint of the data.
        split: split of the data.
        what: name of the table, for the message.
        samples: (sample_ids, labels) of the table.
        expected: (sample_ids, labels) of the data.

    Raises:
        UsageError: they differ; the message has the counts.
    """
    if provenance.get("split", split) != split:
        raise UsageError(f"{what} is of split {quote(provenance['split'])}; split {quote(split)} is needed")
    if len(samples[1]) != len(expected[1]):
        counts = f"{len(samples[1])} samples against {len(expected[1])}"
        raise UsageError(f"{what} is of other data: {counts}{describe_changes(samples, expected)}")
    if provenance.get("fingerprint") == fingerprint:
        return
    ids = sum(a != b for a, b in zip(samples[0], expected[0], strict=True))
    labels = int(np.sum(samples[1] != expected[1]))
    if "fingerprint" in provenance or ids or labels:
        raise UsageError(
            f"{what} is of other data: {ids} sample ids and {labels} labels differ "
            f"(fingerprint {str(provenance.get('fingerprint'))[:12]} against {fingerprint[:12]})"
            f"{describe_changes(samples, expected)}"
        )


def describe_changes(samples: tuple[Sequence[str], Ints], expected: tuple[Sequence[str], Ints]) -> str:
    """List samples that are gone, new or relabelled, the first five of each; empty if no sample id is shared."""
    before, now = (dict(zip(ids, labels.tolist(), strict=True)) for ids, labels in (samples, expected))
    if not before.keys() & now.keys():
        return ""
    changes = {
        "gone": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
        "relabelled": [name for name in before if now.get(name, before[name]) != before[name]],
    }
    lines = [
        f"{kind}: {', '.join(map(printable_name, names[:SHOWN]))}{', ...' * (len(names) > SHOWN)}"
        for kind, names in changes.items()
        if names
    ]
    return f"; {'; '.join(lines)}" if lines else ""
