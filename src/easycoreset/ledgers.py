"""What a run has written: the list by which its files may be replaced or deleted, and nothing else is ever touched.

A record (`run.json`, `evaluation.json`, ...) has a ledger beside it, `.run.json.written`: a line of JSON a file,
`[path, mark]`, appended before the file gets its name. The mark is the SHA-256 of its content, or says that the path is
a folder that was made, a step's folder (which has a ledger of its own), or a temporary file. A file whose content is
none that was listed is somebody else's, whatever it is called. A step's mark names the record of its own ledger.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from easycoreset.errors import UsageError

STEP, MADE, TEMPORARY, STATE = "step ", "folder", "temporary", "state"
HEADER = ["easycoreset", "written"]
SUFFIX = ".written"
TEMPORARY_NAME = re.compile(r"\..+\.[\w-]+-\d+-[0-9a-f]{12}\.tmp", re.DOTALL)
# What is worth nothing to anybody and may be damaged: where a run stands, and locks. These are known by their names.
STATE_NAME = re.compile(r"(.+/)?(checkpoint\.pt|locks/[\w-]+|\.evaluation/[^/]+|\.vog_\w+\.npy)")
SHOWN = 5
LOCK = ".lock"

_active: list["Ledger"] = []
_known: dict[Path, tuple[int, ...]] = {}  # what this process has just written, by inode, size and time


class Ledger:
    """The files that one record of a folder has written.

    Args:
        folder: where the record lies.
        record: its file name.
    """

    def __init__(self, folder: Path, record: str) -> None:
        self.folder, self.record = folder.resolve(), record
        self.given = Path(os.path.abspath(folder))
        self.file = self.folder / f".{record}{SUFFIX}"

    @contextlib.contextmanager
    def active(self) -> Iterator["Ledger"]:
        """List here what `write_atomic` writes in the folder meanwhile, unless a folder within it has a ledger."""
        _active.append(self)
        try:
            yield self
        finally:
            _active.remove(self)

    def note(self, path: Path, mark: str) -> None:
        """Append a line; a file of that name that is no ledger is left alone.

        Raises:
            UsageError: something else has the ledger's name.
        """
        fresh = not os.path.lexists(self.file)
        if not fresh and not self.exists():
            raise UsageError(f"{self.file} is in the way: it is no list that easycoreset wrote")
        lines = [*([HEADER] if fresh else []), [self.name_of(path), mark]]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, ("" if fresh else "\n").encode() + text.encode())  # a line may have been cut off
        finally:
            os.close(descriptor)

    def exists(self) -> bool:
        """Whether there is such a list."""
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.lstat(self.file).st_mode):
                with open(self.file, "rb") as opened:
                    return opened.readline(200).strip() == json.dumps(HEADER).encode()
        return False

    def entries(self) -> dict[str, set[str]]:
        """Path within the folder -> marks; lines that are cut off, or that lead out of the folder, are passed over."""
        found: dict[str, set[str]] = {}
        if not self.exists():
            return found
        for line in self.file.read_bytes().splitlines()[1:]:
            entry: Any = None
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
            pair = isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
            if pair and entry != HEADER and is_within(entry[0]):
                found.setdefault(entry[0], set()).add(entry[1])
        return found

    def holds(self, path: Path) -> bool:
        """Whether a path lies in the folder, whatever links are on the way."""
        place = Path(os.path.abspath(path))
        return any(root in place.parents for root in (self.given, self.folder))

    def name_of(self, path: Path) -> str:
        """A path as the ledger spells it."""
        place = Path(os.path.abspath(path))
        root = self.given if self.given in place.parents else self.folder
        return place.relative_to(root).as_posix()

    def owns(self, path: Path) -> bool:
        """Whether a file is one that was written here, with the content that was written."""
        name = self.name_of(path)
        return self._owns(name, self.entries().get(name, set()))

    def _owns(self, name: str, marks: set[str]) -> bool:
        path = self.folder / name
        if not marks or not is_plain_file(path) or self.linked(name):
            return False
        if name == self.record or STATE_NAME.fullmatch(name):
            return True
        if TEMPORARY in marks and TEMPORARY_NAME.fullmatch(path.name):
            return True
        return stamp_of(path) == _known.get(path) or digest_of(path) in marks

    def linked(self, name: str) -> Path | None:
        """The first folder on the way to a path within this one that is a link."""
        places = [self.folder / parent for parent in reversed(PurePosixPath(name).parents)]
        return next((place for place in places[1:] if place.is_symlink()), None)

    def refuse_links(self, path: Path, inside: bool = False) -> None:
        """Refuse a path within the folder that leads through a link, or (unless only what is `inside` counts) is one.

        Raises:
            UsageError: the link is named.
        """
        name = self.name_of(path)
        if link := self.linked(name if inside else f"{name}/x"):
            raise UsageError(f"{link} is a link: nothing is written through it")

    def check_free(self, path: Path) -> None:
        """Refuse to write where something lies that was not written here, or through a link.

        Raises:
            UsageError: the path is named.
        """
        self.refuse_links(path, inside=True)
        if os.path.lexists(path) and not self.owns(path):
            raise UsageError(f"{path} is in the way: this command did not write it, or it was changed since")

    def foreign(self, names: tuple[str, ...] = ()) -> list[Path]:
        """What is listed and was changed since, and what lies at `names` and is not listed: it would be in the way."""
        found: list[Path] = []
        entries = self.entries()
        for name, marks in entries.items():
            path = self.folder / name
            of_a_file = {mark for mark in marks if mark not in (MADE, TEMPORARY) and not mark.startswith(STEP)}
            if of_a_file and os.path.lexists(path) and not self._owns(name, marks):
                found.append(path)
        for name in names:
            path = self.folder / name
            if os.path.lexists(path) and name not in entries:
                found.append(path)
        return list(dict.fromkeys(found))

    def delete(self, path: Path | None = None) -> None:
        """Delete what was written at or below a path (all where it is None), and folders that are empty then."""
        below = None if path is None else self.name_of(path)
        folders: list[Path] = []
        for name, marks in self.entries().items():
            if below is not None and name != below and not name.startswith(f"{below}/"):
                continue
            path = self.folder / name
            if self.linked(name) or path.is_symlink():
                continue
            if steps := [mark.removeprefix(STEP) for mark in marks if mark.startswith(STEP)]:
                delete_run(path, *steps)
            elif MADE in marks:
                folders.append(path)
            elif self._owns(name, marks):
                path.unlink()
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            remove_empty(folder)

    def delete_temporaries(self) -> None:
        """Delete what a killed process left half written."""
        for name, marks in self.entries().items():
            path = self.folder / name
            if marks == {TEMPORARY} and TEMPORARY_NAME.fullmatch(path.name) and self._owns(name, marks):
                path.unlink()

    def clear(self) -> None:
        """Begin a new list, which is there at any moment: by it the folder is known."""
        if self.exists():
            with open(self.file, "r+b") as opened:
                opened.truncate(len(json.dumps(HEADER)) + 1)

    def forget(self) -> None:
        """Delete the ledger itself, where it is one."""
        if self.exists():
            self.file.unlink()


def ledger_of(path: Path) -> Ledger | None:
    """The ledger that lists what is written at a path: of the innermost folder that a run of this process works in."""
    found: Ledger | None = None
    for ledger in _active:
        if ledger.holds(path) and (found is None or len(ledger.folder.parts) >= len(found.folder.parts)):
            found = ledger
    return found


def delete_run(folder: Path, *records: str) -> list[Path]:
    """Delete what the runs of these records wrote in a folder, and the folder if that was all; returns what is left."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    for record in records:
        ledger = Ledger(folder, record)
        if ledger.exists():
            ledger.delete()
            ledger.forget()
    lock = folder / LOCK
    if os.listdir(folder) == [LOCK] and is_plain_file(lock) and not lock.stat().st_size:
        lock.unlink()
    remove_empty(folder)
    return sorted(folder.iterdir()) if folder.exists() else []


def delete_written(path: Path) -> None:
    """Delete what the run that works here wrote at or below a path; what it did not write stays."""
    ledger = ledger_of(path)
    if ledger is not None:
        ledger.delete(path)


def remember(path: Path) -> None:
    """Know a file that was just written without reading it again."""
    _known[path.parent.resolve() / path.name] = stamp_of(path)


def is_plain_file(path: Path) -> bool:
    """Whether a path is a file and no link."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def is_within(name: str) -> bool:
    """Whether a path is relative and leads nowhere but down.

    >>> is_within("a/b.png"), is_within("../a"), is_within("/a"), is_within("")
    (True, False, False, False)
    """
    parts = PurePosixPath(name).parts
    try:
        named = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # no file can be called so
        return False
    return named and bool(parts) and not name.startswith("/") and ".." not in parts


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


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
