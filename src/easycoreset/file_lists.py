"""Lists of the files that a run has written. Only listed files are ever replaced or deleted.

A record (`run.json`, `evaluation.json`, ...) has a file list beside it, `.run.json.written`, with a line of JSON per
file, `[path, mark]`, appended before the file is renamed to its path. The mark is the SHA-256 of the content, or
`folder` (a folder that the run made), `step RECORD` (the folder of a step, whose file list belongs to RECORD),
`temporary`, `state` or `deleted`. A file belongs to the run if its content has one of the last two listed hashes. Locks
and the state of an unfinished run (checkpoints) belong to it by name alone, while they are listed: they may be damaged,
and the run can be repeated without them.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.paths import cached_sha256, is_plain_file, is_within, remove_empty

STEP_MARK = "step "
FOLDER_MARK = "folder"
TEMPORARY_MARK = "temporary"
STATE_MARK = "state"
DELETED_MARK = "deleted"
MARK = re.compile(r"[0-9a-f]{64}|folder|temporary|state|deleted|step (run|evaluation|plan)\.json")
HEADER = b'["easycoreset", "written"]\n'
SUFFIX = ".written"
TEMPORARY_NAME = re.compile(r"\..+\.[\w-]+-\d+-[0-9a-f]{12}\.tmp", re.DOTALL)
STATE_NAME = re.compile(r"(.+/)?(checkpoint\.pt|locks/[\w-]+|\.evaluation/[^/]+|\.unfinished_\w+\.npy)")
LOCK = ".lock"

_active: list["FileList"] = []


class FileList:
    """The files that one record of a folder has written.

    Args:
        folder: where the record lies.
        record: its file name.
    """

    def __init__(self, folder: Path, record: str) -> None:
        self.folder = folder.resolve()
        self.record = record
        self.unresolved_folder = Path(os.path.abspath(folder))
        self.file = self.folder / f".{record}{SUFFIX}"
        self._entries: dict[str, list[str]] = {}
        self._position = (0, 0)  # inode of the list's file, and number of bytes already parsed

    @contextlib.contextmanager
    def active(self) -> Iterator["FileList"]:
        """List the files that `write_atomic` writes in the folder, except in subfolders with an active file list."""
        _active.append(self)
        try:
            yield self
        finally:
            _active.remove(self)

    def add(self, path: Path, mark: str) -> None:
        """Append a line to the file list.

        Raises:
            UsageError: another file has the file list's name; it is left alone.
        """
        start = self._read_start() if os.path.lexists(self.file) else b""
        if start is None or not HEADER.startswith(start):  # a killed process may leave a partial header
            raise UsageError(f"{self.file} is in the way: it is not a list that easycoreset wrote")
        line = json.dumps([self.name_of(path), mark]) + "\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.file, flags, 0o666)
        try:
            is_new = os.fstat(descriptor).st_size < len(HEADER)
            if is_new:
                os.ftruncate(descriptor, 0)
            start = HEADER.decode() if is_new else "\n"  # the line break ends a partial line of a killed process
            os.write(descriptor, f"{start}{line}".encode())
        finally:
            os.close(descriptor)

    def exists(self) -> bool:
        """Whether the list's file exists and has the header."""
        return self._read_start() == HEADER

    def _read_start(self) -> bytes | None:
        """The first bytes of the list's file; None if it is not a plain file."""
        with contextlib.suppress(OSError):
            if is_plain_file(self.file):
                with open(self.file, "rb") as file:
                    return file.read(len(HEADER))
        return None

    def entries(self) -> dict[str, list[str]]:
        """Read the list as path within the folder -> marks; truncated lines and paths outside the folder are skipped.

        The last two hashes of a file are kept, because the file has its earlier content until the rename is done.
        """
        if not self.exists():
            return {}
        with open(self.file, "rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            size = os.fstat(file.fileno()).st_size
            if inode != self._position[0] or size < self._position[1]:
                self._entries = {}
                self._position = (inode, 0)
            file.seek(self._position[1])
            lines = file.read(size - self._position[1])
        for line in lines.splitlines():
            self._parse(line)
        self._position = (inode, size)
        return self._entries

    def _parse(self, line: bytes) -> None:
        entry: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            return
        name, mark = entry
        if not is_within(name) or MARK.fullmatch(mark) is None:
            return
        if mark == DELETED_MARK:
            self._entries.pop(name, None)
            return
        marks = self._entries.setdefault(name, [])
        hashes = [other for other in marks if len(other) == 64]
        if len(mark) == 64 and len(hashes) > 1:
            marks.remove(hashes[0])
        if mark in marks:
            marks.remove(mark)
        marks.append(mark)

    def covers(self, path: Path) -> bool:
        """Whether a path lies in the folder, by its spelling or with links resolved."""
        absolute = Path(os.path.abspath(path))
        return any(root in absolute.parents for root in (self.unresolved_folder, self.folder))

    def name_of(self, path: Path) -> str:
        """The name of a path in the file list: relative to the folder, with slashes."""
        absolute = Path(os.path.abspath(path))
        root = self.unresolved_folder if self.unresolved_folder in absolute.parents else self.folder
        return absolute.relative_to(root).as_posix()

    def is_unchanged_own_file(self, path: Path) -> bool:
        """Whether the run wrote this file, with its present content."""
        name = self.name_of(path)
        return self._owns(name, self.entries().get(name, []))

    def _owns(self, name: str, marks: list[str]) -> bool:
        path = self.folder / name
        if not marks or not is_plain_file(path) or self.find_parent_link(name):
            return False
        if STATE_NAME.fullmatch(name):
            return True
        if TEMPORARY_MARK in marks and TEMPORARY_NAME.fullmatch(path.name):
            return True
        return cached_sha256(path) in marks

    def find_parent_link(self, name: str) -> Path | None:
        """The first link among the parents of a path within the folder; None without one."""
        parents = [self.folder / parent for parent in reversed(PurePosixPath(name).parents)]
        return next((parent for parent in parents[1:] if parent.is_symlink()), None)

    def require_no_links(self, path: Path, inside: bool = False) -> None:
        """Refuse a path within the folder that has a link among its parents or, unless `inside`, is a link.

        Raises:
            UsageError: there is a link; the message names it.
        """
        name = self.name_of(path)
        # the parents of `name/x` include the path itself
        if link := self.find_parent_link(name if inside else f"{name}/x"):
            raise UsageError(f"{link} is a link; nothing is written through links")

    def check_free(self, path: Path) -> None:
        """Refuse a path at which there is something that the run did not write, or that leads through a link.

        Raises:
            UsageError: the path is not free.
        """
        self.require_no_links(path, inside=True)
        if os.path.lexists(path) and not self.is_unchanged_own_file(path):
            raise UsageError(f"{path} is in the way: this command did not write it, or it was changed since")

    def find_conflicts(self, names: tuple[str, ...] = ()) -> list[Path]:
        """Paths in the way of a run that deletes its listed files and then writes to `names` again.

        These are listed files that were changed since (also in the folders of steps), and unlisted files and links at
        `names`.
        """
        conflicts: list[Path] = []
        for name, marks in self.entries().items():
            if self.find_parent_link(name) or (path := self.folder / name).is_symlink():
                conflicts.append(self.folder / name)
            elif path.is_dir():
                for record in steps_of(marks):
                    conflicts += FileList(path, record).find_conflicts()
            elif os.path.lexists(path) and not self._owns(name, marks) and not TEMPORARY_NAME.fullmatch(path.name):
                conflicts.append(path)
        listed = self.entries()
        unlisted_paths = (self.folder / name for name in names if name not in listed)
        conflicts += [path for path in unlisted_paths if path.is_symlink() or (path.exists() and not path.is_dir())]
        return list(dict.fromkeys(conflicts))

    def unlisted(self) -> list[Path]:
        """Paths in the folder that are not listed; within the folder of a step, the file list of the step counts."""
        unlisted_paths: list[Path] = []
        for path in self.folder.rglob("*"):
            marks = self.entries().get(path.relative_to(self.folder).as_posix())
            step_lists = [FileList(path, record) for record in steps_of(marks or [])]
            unlisted_paths += [item for file_list in step_lists for item in file_list.unlisted()]
            in_step = any(
                steps_of(self.entries().get(self.name_of(parent), []))
                for parent in path.parents[:-2]
                if self.covers(parent)
            )
            if marks is None and not in_step and path not in (self.file, self.folder / LOCK):
                unlisted_paths.append(path)
        return unlisted_paths

    def delete(self, path: Path | None = None) -> None:
        """Delete the run's files at or below a path (all files if it is None), and folders that are then empty."""
        top = None if path is None else self.name_of(path)
        folders: list[Path] = []
        for name, marks in list(self.entries().items()):
            if top is not None and name != top and not name.startswith(f"{top}/"):
                continue
            path = self.folder / name
            if self.find_parent_link(name) or path.is_symlink():
                continue
            if path.is_dir():
                folders += [path] if FOLDER_MARK in marks else []
                delete_run(path, *steps_of(marks))
            elif self._owns(name, marks):
                path.unlink()
                if top is not None:
                    self.add(path, DELETED_MARK)
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            remove_empty(folder)

    def delete_temporaries(self) -> None:
        """Delete the temporary files of killed processes."""
        for name, marks in self.entries().items():
            path = self.folder / name
            if marks == [TEMPORARY_MARK] and TEMPORARY_NAME.fullmatch(path.name) and self._owns(name, marks):
                path.unlink()

    def clear(self) -> None:
        """Empty the file list; its file stays, because it marks the folder as ours."""
        if self.exists():
            with open(self.file, "r+b") as file:
                file.truncate(len(HEADER))

    def forget(self) -> None:
        """Delete the list's file, if it is a file list."""
        if self.exists():
            self.file.unlink()


def file_list_of(path: Path) -> FileList | None:
    """The file list that covers a path, from the innermost folder in which a run of this process works, or None."""
    innermost: FileList | None = None
    for file_list in _active:
        if file_list.covers(path) and (innermost is None or len(file_list.folder.parts) >= len(innermost.folder.parts)):
            innermost = file_list
    return innermost


def check_free(path: Path) -> None:
    """Refuse a path at which there is something that the active run did not write.

    Raises:
        UsageError: the path is not free.
    """
    file_list = file_list_of(path)
    if file_list is not None:
        file_list.check_free(path)


def delete_run(folder: Path, *records: str) -> list[Path]:
    """Delete the files of the runs of `records`, and the folder if it is then empty; returns the remaining paths."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    file_lists = [file_list for file_list in (FileList(folder, record) for record in records) if file_list.exists()]
    for file_list in file_lists:
        file_list.delete()
    lock = folder / LOCK
    bookkeeping_files = {file_list.file for file_list in file_lists}
    bookkeeping_files |= {lock} if is_plain_file(lock) and not lock.stat().st_size else set()
    remaining = sorted(set(folder.iterdir()) - bookkeeping_files)
    for file_list in file_lists:  # beside files of others, an empty file list still marks the folder as ours
        file_list.clear() if remaining else file_list.forget()
    if not remaining:
        lock.unlink(missing_ok=True)
        remove_empty(folder)
    return remaining


def delete_written(path: Path) -> None:
    """Delete the files that the active run wrote at or below a path."""
    file_list = file_list_of(path)
    if file_list is not None:
        file_list.delete(path)


def steps_of(marks: list[str]) -> list[str]:
    """The file names of the records that the marks of a step's folder name."""
    return [mark.removeprefix(STEP_MARK) for mark in marks if mark.startswith(STEP_MARK)]


def is_content(marks: list[str]) -> bool:
    """Whether the marks are those of a file with a known content."""
    return any(len(mark) == 64 for mark in marks)
