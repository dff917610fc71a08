"""What lies at a path: plain files, their contents, and names that lead nowhere but down."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

_known: dict[Path, tuple[tuple[int, ...], str]] = {}  # what this process has just written: stamp and digest
SHOWN = 5  # paths or values that a message names
LONGEST_NAME = 255  # bytes
LONGEST_PATH = 4000


def is_within(name: str) -> bool:
    """Whether a path is relative and leads nowhere but down.

    >>> is_within("a/b.png"), is_within("../a"), is_within("/a"), is_within("")
    (True, False, False, False)
    """
    parts = PurePosixPath(name).parts
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:  # no file can be called so
        return False
    named = "\0" not in name and max(sizes, default=LONGEST_PATH) <= LONGEST_NAME and sum(sizes) <= LONGEST_PATH
    return named and not name.startswith("/") and ".." not in parts


def is_plain_file(path: Path) -> bool:
    """Whether a path is a file and no link."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def remember(path: Path, digest: str) -> None:
    """Know the content of a file that was just written without reading it again."""
    _known[path.parent.resolve() / path.name] = (stamp_of(path), digest)


def digest_now(path: Path) -> str:
    """`digest_of` a file, unless this process has just written it."""
    stamp, digest = _known.get(path, ((), ""))
    return digest if stamp == stamp_of(path) else digest_of(path)


def stamp_of(path: Path) -> tuple[int, ...]:
    """What tells in no time whether a file is still the one that was written."""
    found = os.lstat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def remove_empty(folder: Path) -> None:
    """Remove a folder where it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def say_paths(paths: list[Path], folder: Path) -> str:
    """Some paths within a folder, on one line."""
    names = [str(path.relative_to(folder)) if folder in path.parents else str(path) for path in paths]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
