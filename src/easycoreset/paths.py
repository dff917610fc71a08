"""Checks of paths, and hashes of files."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

_digests: dict[Path, tuple[tuple[int, ...], str]] = {}  # of files that this process wrote: stamp and digest
MAX_SHOWN = 5  # paths or values that a message lists
LONGEST_NAME = 255  # bytes
LONGEST_PATH = 4000


def is_within(name: str) -> bool:
    """Whether a path is relative and stays below its folder.

    >>> is_within("a/b.png"), is_within("../a"), is_within("/a"), is_within("")
    (True, False, False, False)
    """
    parts = PurePosixPath(name).parts
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:  # not a valid file name
        return False
    valid = "\0" not in name and max(sizes, default=LONGEST_PATH) <= LONGEST_NAME and sum(sizes) <= LONGEST_PATH
    return valid and not name.startswith("/") and ".." not in parts


def is_plain_file(path: Path) -> bool:
    """Whether a path is a regular file, not a link."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def cache_sha256(path: Path, digest: str) -> None:
    """Cache the digest of a file that was just written, so that `cached_sha256` need not read it."""
    _digests[path.parent.resolve() / path.name] = (file_stamp(path), digest)


def cached_sha256(path: Path) -> str:
    """The digest of a file: from the cache if the file is unchanged since it was written, else from its content."""
    stamp, digest = _digests.get(path, ((), ""))
    return digest if stamp == file_stamp(path) else sha256_of_file(path)


def file_stamp(path: Path) -> tuple[int, ...]:
    """Inode, size and times of a file, which change with its content."""
    stat_result = os.lstat(path)
    return stat_result.st_ino, stat_result.st_size, stat_result.st_mtime_ns, stat_result.st_ctime_ns


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def format_paths(paths: list[Path], folder: Path) -> str:
    """List the first paths within a folder, on one line."""
    names = [str(path.relative_to(folder)) if folder in path.parents else str(path) for path in paths]
    return ", ".join(names[:MAX_SHOWN]) + (f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else "")
