"""Where the pictures of samples lie, or how they are called where a data set is arrays."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from easycoreset.data.folder import SUFFIXES
from easycoreset.data.source import fingerprint
from easycoreset.errors import UsageError
from easycoreset.spelling import is_manifest, picture_files
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


def find_pictures(data: str, table: Coreset | Scores) -> list[Path]:
    """The files of an image folder's or a manifest's samples, of all of them; nothing is decoded for this.

    Raises:
        UsageError: a folder's id that is no path within it, a picture that is gone, or another fingerprint.
    """
    root = Path(data)
    if not is_manifest(data):
        check_ids(table.sample_ids)
    files = picture_files(data, table.sample_ids)
    missing = [name for name, file in zip(table.sample_ids, files, strict=True) if not file.is_file()]
    if missing:
        raise UsageError(
            f"data: {root} lacks {len(missing)} of {len(table.sample_ids)} samples (first: {missing[0]!r}); "
            "--data says where the data set lies now"
        )
    known = table.provenance.get("fingerprint")
    sizes = (str(file.stat().st_size).encode() for file in files)
    found = fingerprint(table.sample_ids, table.labels, sizes)
    if known not in (None, found):
        raise UsageError(f"data: {root} is other data: pictures of other sizes (fingerprint {found[:12]} against "
                         f"{str(known)[:12]})")  # fmt: skip
    return files


def name_picture(index: int, class_name: str, samples: int, suffix: str = ".png") -> str:
    """The file of a sample that has no name in a folder a class: its index.

    >>> name_picture(7, "T-shirt/top", 1438)
    'T-shirt%2Ftop/0007.png'
    """
    quoted = "".join(f"%{ord(c):02X}" if c in "%/\0" else c for c in class_name)
    if not quoted or quoted.startswith("."):
        quoted = f"%{quoted}"
    return f"{quoted}/{index:0{len(str(samples - 1))}d}{suffix}"
