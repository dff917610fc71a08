"""Run folders: a folder is checked, then locked, and changed only if it belongs to the run; a rerun resumes there."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.errors import RunError, UsageError
from easycoreset.file_lists import LOCK, STEP_MARK, FileList, delete_run, file_list_of
from easycoreset.files import make_writable_folder, process_name, write_json
from easycoreset.folder_access import PLAN_RECORD, RUN_RECORD, FolderAccess
from easycoreset.locks import Lock, open_lock
from easycoreset.paths import format_paths, remove_empty


@dataclass
class RunFolder:
    """A folder in which one run works, with the run's record."""

    path: Path
    file: Path
    record: dict[str, Any] = field(default_factory=dict)
    is_writer: bool = True  # only the main process of a run writes

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.record.get("status") == "done"

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished and add `facts` to its record."""
        self.record |= {"status": "done", "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **facts}
        if self.is_writer:
            write_json(self.file, self.record)


@contextlib.contextmanager
def open_run_folder(
    path: Path,
    command: str,
    options: dict[str, Any],
    *,
    overwrite: bool = False,
    record: str = RUN_RECORD,
    output_names: Sequence[str] = (),
    host: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Iterator[RunFolder]:
    """Work alone in the folder `path`, on one run of `command` with `options`.

    The folder belongs to the run if `record` is run.json; otherwise the run is a guest in it.

    Args:
        path: a folder that is new, empty, or of this run.
        command: the command of the run.
        options: the options that determine the result.
        overwrite: delete the files of an earlier run of the command, and no others, and begin anew.
        record: the file name of the run's record.
        output_names: names in the folder that the run may write to; files of others at these names are refused at once.
        host: a folder of another run that a guest may write into.
        defaults: the defaults of the options, for records that are older than an option.

    Raises:
        UsageError: the folder holds something else, or a run with other options (the differences are named).
        RunError: another process is working in the folder.
    """
    access = FolderAccess(path, command, options, record, output_names, host, defaults=defaults)
    access.check(overwrite)
    with _listed_as_step(path, record), _locked(path, access.file_list, shared=False) as lock:
        if lock is None:
            raise RunError(f"another process is working in {str(path)!r}; wait for it or give another --out")
        access.check(overwrite)
        with access.file_list.active():
            access.prepare(overwrite)
            yield RunFolder(path, path / record, access.open_record())


@dataclass
class SharedFolder(RunFolder):
    """A folder in which several processes work on one run."""

    is_exclusive: bool = True
    lock: Lock | None = None

    def allow_others(self) -> None:
        """Let other processes in, once the exclusive work is done."""
        if self.lock is not None:
            self.lock.share()


@contextlib.contextmanager
def open_plan_folder(
    path: Path, command: str, *, overwrite: bool = False, output_names: Sequence[str] = ()
) -> Iterator[SharedFolder]:
    """Work in the folder `path` of a plan of `command`, beside other processes.

    Raises:
        UsageError: the folder holds something else, or another command's plan.
        RunError: `overwrite` while another process is working there.
    """
    access = FolderAccess(path, command, {}, PLAN_RECORD, output_names, resumable=True)
    access.check(overwrite)
    with _listed_as_step(path, PLAN_RECORD), _locked(path, access.file_list, shared=True) as lock:
        assert lock is not None
        if overwrite and not lock.is_exclusive:
            raise RunError(f"another process is working in {str(path)!r}: it cannot be overwritten")
        access.check(overwrite)
        with access.file_list.active():
            if lock.is_exclusive:
                access.prepare(overwrite)
            folder = SharedFolder(
                path, path / PLAN_RECORD, access.open_record(), is_exclusive=lock.is_exclusive, lock=lock
            )
            yield folder


def discard_step(path: Path, *records: str) -> None:
    """Delete the listed files of a step; damaged files, and files of versions without file lists, are moved aside.

    Raises:
        UsageError: the folder holds a file that the step did not write.
    """
    file_lists = [file_list for file_list in (FileList(path, record) for record in records) if file_list.exists()]
    list_files = {file_list.file for file_list in file_lists}
    unlisted = [set(file_list.unlisted()) for file_list in file_lists]
    if unlisted and (foreign := sorted(unlisted[0].intersection(*unlisted[1:]) - list_files)):
        raise UsageError(f"{format_paths(foreign, path)} in {path} is in the way: the step did not write it; move it")
    delete_run(path, *records)
    if not os.path.lexists(path):
        return
    aside = path.with_name(f".{path.name}.{process_name()}.{secrets.token_hex(3)}.aside")
    path.rename(aside)
    log.warning("warning: the damaged files of %s were moved to %s", path, aside)


@contextlib.contextmanager
def _listed_as_step(path: Path, record: str) -> Iterator[None]:
    """List the folder as a step in the file list of the enclosing run, if there is one."""
    file_list = file_list_of(path)
    if file_list is not None:
        file_list.require_no_links(path)
        file_list.add(path, f"{STEP_MARK}{record}")
    yield


@contextlib.contextmanager
def _locked(path: Path, file_list: FileList, shared: bool) -> Iterator[Lock | None]:
    """Hold the folder's lock; None if another process holds it exclusively. A refused process leaves nothing behind."""
    existed = path.exists()
    make_writable_folder(path)
    lock = open_lock(path / LOCK, wait=shared)
    try:
        yield lock if shared or lock.is_exclusive else None
    finally:
        if lock.created and not file_list.exists():  # the process was refused before it wrote anything
            (path / LOCK).unlink(missing_ok=True)
            if not existed:
                remove_empty(path)
        os.close(lock.descriptor)
