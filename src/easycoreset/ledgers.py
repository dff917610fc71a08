"""What a run has written: the list by which its files may be replaced or deleted, and nothing else is ever touched.

A record (`run.json`, `evaluation.json`, ...) has a ledger beside it, `.run.json.written`: a line of JSON a file,
`[path, mark]`, appended before the file gets its name. The mark is the SHA-256 of its content, or says that the path is
a folder that was made, a step's folder (whose own ledger is that of the record named), a temporary file, or deleted. A
file with other content than was listed last, or before it, is somebody else's. Known by their names alone are, while
they are listed, locks and what says where an unfinished run stands: that may be damaged, and is worth nothing.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.paths import digest_now, is_plain_file, is_within, remove_empty

STEP = "step "
MADE = "folder"
TEMPORARY = "temporary"
STATE = "state"
DELETED = "deleted"
MARK = re.compile(r"[0-9a-f]{64}|folder|temporary|state|deleted|step (run|evaluation|cell)\.json")
HEADER = b'["easycoreset", "written"]\n'
SUFFIX = ".written"
TEMPORARY_NAME = re.compile(r"\..+\.[\w-]+-\d+-[0-9a-f]{12}\.tmp", re.DOTALL)
STATE_NAME = re.compile(r"(.+/)?(checkpoint\.pt|locks/[\w-]+|\.evaluation/[^/]+|\.vog_\w+\.npy)")
LOCK = ".lock"

_active: list["Ledger"] = []


class Ledger:
    """The files that one record of a folder has written.

    Args:
        folder: where the record lies.
        record: its file name.
    """

    def __init__(self, folder: Path, record: str) -> None:
        self.folder = folder.resolve()
        self.record = record
        self.given = Path(os.path.abspath(folder))
        self.file = self.folder / f".{record}{SUFFIX}"
        self._entries: dict[str, list[str]] = {}
        self._read = (0, 0)  # inode and bytes of the list that the entries are of

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
        begins = self._begins() if os.path.lexists(self.file) else b""
        if begins is None or not HEADER.startswith(begins):  # a list that is not whole was begun by a killed process
            raise UsageError(f"{self.file} is in the way: it is no list that easycoreset wrote")
        line = json.dumps([self.name_of(path), mark]) + "\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.file, flags, 0o666)
        try:
            if os.fstat(descriptor).st_size < len(HEADER):
                os.ftruncate(descriptor, 0)
                line = HEADER.decode() + line
            os.write(descriptor, f"{line}\n".encode())  # an empty line ends what another process left half written
        finally:
            os.close(descriptor)

    def exists(self) -> bool:
        """Whether there is such a list."""
        return self._begins() == HEADER

    def _begins(self) -> bytes | None:
        """What a file of the list's name begins with; None where there is no plain file."""
        with contextlib.suppress(OSError):
            if is_plain_file(self.file):
                with open(self.file, "rb") as opened:
                    return opened.read(len(HEADER))
        return None

    def entries(self) -> dict[str, list[str]]:
        """Path within the folder -> marks; lines that are cut off, or that lead out of the folder, are passed over.

        Of the contents that a file had the last two count: the earlier one is there until a rename is done.
        """
        if not self.exists():
            return {}
        with open(self.file, "rb") as opened:
            inode = os.fstat(opened.fileno()).st_ino
            size = os.fstat(opened.fileno()).st_size
            if inode != self._read[0] or size < self._read[1]:
                self._entries = {}
                self._read = (inode, 0)
            opened.seek(self._read[1])
            lines = opened.read(size - self._read[1])
        for line in lines.splitlines():
            self._take_in(line)
        self._read = (inode, size)
        return self._entries

    def _take_in(self, line: bytes) -> None:
        entry: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            return
        name, mark = entry
        if not is_within(name) or MARK.fullmatch(mark) is None:
            return
        if mark == DELETED:
            self._entries.pop(name, None)
            return
        marks = self._entries.setdefault(name, [])
        contents = [known for known in marks if len(known) == 64]
        if len(mark) == 64 and len(contents) > 1:
            marks.remove(contents[0])
        if mark in marks:
            marks.remove(mark)
        marks.append(mark)

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
        return self._owns(name, self.entries().get(name, []))

    def _owns(self, name: str, marks: list[str]) -> bool:
        path = self.folder / name
        if not marks or not is_plain_file(path) or self.linked(name):
            return False
        if STATE_NAME.fullmatch(name):
            return True
        if TEMPORARY in marks and TEMPORARY_NAME.fullmatch(path.name):
            return True
        return digest_now(path) in marks

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
        """What would be in the way of a run that deletes what is listed, and then writes to `names` again.

        That is what is listed and was changed since, in the folders of steps too, files and links that lie at `names`
        and are not listed, and what somebody put into a cell's folder, which is replaced as a whole.
        """
        found: list[Path] = []
        for name, marks in self.entries().items():
            if self.linked(name) or (path := self.folder / name).is_symlink():
                found.append(self.folder / name)
            elif path.is_dir():
                for record in steps_of(marks):
                    inner = Ledger(path, record)
                    found += [*inner.foreign(), *(inner.unlisted() if record == "cell.json" else ())]
            elif os.path.lexists(path) and not self._owns(name, marks) and not TEMPORARY_NAME.fullmatch(path.name):
                found.append(path)
        listed = self.entries()
        others = (self.folder / name for name in names if name not in listed)
        found += [path for path in others if path.is_symlink() or (path.exists() and not path.is_dir())]
        return list(dict.fromkeys(found))

    def unlisted(self) -> list[Path]:
        """What lies in the folder and is not listed, in the folders of steps by their own lists."""
        found: list[Path] = []
        for path in self.folder.rglob("*"):
            marks = self.entries().get(path.relative_to(self.folder).as_posix())
            inner = [Ledger(path, record) for record in steps_of(marks or [])]
            found += [item for ledger in inner for item in ledger.unlisted()]
            of_a_step = any(
                steps_of(self.entries().get(self.name_of(parent), []))
                for parent in path.parents[:-2]
                if self.holds(parent)
            )
            if marks is None and not of_a_step and path not in (self.file, self.folder / LOCK):
                found.append(path)
        return found

    def delete(self, path: Path | None = None) -> None:
        """Delete what was written at or below a path (all where it is None), and folders that are empty then."""
        below = None if path is None else self.name_of(path)
        folders: list[Path] = []
        for name, marks in list(self.entries().items()):
            if below is not None and name != below and not name.startswith(f"{below}/"):
                continue
            path = self.folder / name
            if self.linked(name) or path.is_symlink():
                continue
            if path.is_dir():
                folders += [path] if MADE in marks else []
                delete_run(path, *steps_of(marks))
            elif self._owns(name, marks):
                path.unlink()
                if below is not None:
                    self.note(path, DELETED)
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            remove_empty(folder)

    def delete_temporaries(self) -> None:
        """Delete what a killed process left half written."""
        for name, marks in self.entries().items():
            path = self.folder / name
            if marks == [TEMPORARY] and TEMPORARY_NAME.fullmatch(path.name) and self._owns(name, marks):
                path.unlink()

    def clear(self) -> None:
        """Begin a new list, which is there at any moment: by it the folder is known."""
        if self.exists():
            with open(self.file, "r+b") as opened:
                opened.truncate(len(HEADER))

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


def check_free(path: Path) -> None:
    """Refuse a path at which something lies that the run that works there did not write.

    Raises:
        UsageError: the path is named.
    """
    ledger = ledger_of(path)
    if ledger is not None:
        ledger.check_free(path)


def delete_run(folder: Path, *records: str) -> list[Path]:
    """Delete what the runs of these records wrote in a folder, and the folder if that was all; returns what is left."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    ledgers = [ledger for ledger in (Ledger(folder, record) for record in records) if ledger.exists()]
    for ledger in ledgers:
        ledger.delete()
    lock = folder / LOCK
    known = {ledger.file for ledger in ledgers}
    known |= {lock} if is_plain_file(lock) and not lock.stat().st_size else set()
    left = sorted(set(folder.iterdir()) - known)
    for ledger in ledgers:  # by its list a folder is known as ours, also where somebody's files are left in it
        ledger.clear() if left else ledger.forget()
    if not left:
        lock.unlink(missing_ok=True)
        remove_empty(folder)
    return left


def delete_written(path: Path) -> None:
    """Delete what the run that works here wrote at or below a path; what it did not write stays."""
    ledger = ledger_of(path)
    if ledger is not None:
        ledger.delete(path)


def steps_of(marks: list[str]) -> list[str]:
    """The records of a step's folder."""
    return [mark.removeprefix(STEP) for mark in marks if mark.startswith(STEP)]
