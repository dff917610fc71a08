"""Where the pictures of samples lie, or how they are called where a data set is arrays."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from easycoreset.data.folder import SUFFIXES
from easycoreset.data.source import fingerprint
from easycoreset.errors import UsageError
from easycoreset.tables import Coreset, Scores


def are_files(sample_ids: Sequence[str]) -> bool:
    """Whether samples are named as an image folder's are: by a path with a picture's suffix."""
    return all("/" in name and PurePosixPath(name).suffix.lower() in SUFFIXES for name in sample_ids)


def check_ids(sample_ids: Sequence[str]) -> None:
    """Refuse ids that are no path within a folder, and one that is there twice.

    Raises:
        UsageError: the id is named.
    """
    for name in sample_ids:
        parts = name.split("/")
        if len(parts) < 2 or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise UsageError(f"sample ids must be paths within the data folder, as class/name.png; got {name!r}")
    if len(set(sample_ids)) != len(sample_ids):
        raise UsageError("sample ids must be named once each, to be files")


def check_folder(root: Path, table: Coreset | Scores) -> None:
    """Refuse an image folder that is not the data of a table; nothing is decoded for this.

    Raises:
        UsageError: an id that is no path, a picture that is gone, or another fingerprint.
    """
    check_ids(table.sample_ids)
    missing = [name for name in table.sample_ids if not (root / name).is_file()]
    if missing:
        raise UsageError(
            f"data: {root} lacks {len(missing)} of {len(table.sample_ids)} samples (first: {missing[0]!r}); "
            "--data says where the data set lies now"
        )
    known = table.provenance.get("fingerprint")
    sizes = (str((root / name).stat().st_size).encode() for name in table.sample_ids)
    found = fingerprint(table.sample_ids, table.labels, sizes)
    if known not in (None, found):
        raise UsageError(f"data: {root} is other data: pictures of other sizes (fingerprint {found[:12]} against "
                         f"{str(known)[:12]})")  # fmt: skip


def name_picture(index: int, class_name: str, samples: int) -> str:
    """The file of a sample that is an array: a folder a class, the index as name.

    >>> name_picture(7, "T-shirt/top", 1438)
    'T-shirt%2Ftop/0007.png'
    """
    quoted = "".join(f"%{ord(c):02X}" if c in "%/\0" else c for c in class_name)
    if not quoted or quoted.startswith("."):
        quoted = f"%{quoted}"
    return f"{quoted}/{index:0{len(str(samples - 1))}d}.png"
