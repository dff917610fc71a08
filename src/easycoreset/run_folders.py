"""Folders of runs: checked first, locked, and changed only if they belong to the run; a rerun resumes there."""

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
from easycoreset.file_lists import LOCK, STEP, Ledger, delete_run, ledger_of
from easycoreset.files import prepare_place, process_name, write_json
from easycoreset.folder_access import OWN, Claim
from easycoreset.locks import Lock, open_lock
from easycoreset.paths import remove_empty, say_paths


@dataclass
class RunFolder:
    """A folder in which one run works, with the run's record."""

    path: Path
    file: Path
    record: dict[str, Any] = field(default_factory=dict)
    writes: bool = True  # only the main process of a run writes

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.record.get("status") == "done"

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished and add `facts` to its record."""
        self.record |= {"status": "done", "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **facts}
        if self.writes:
            write_json(self.file, self.record)


@contextlib.contextmanager
def claim(
    path: Path,
    command: str,
    options: dict[str, Any],
    *,
    overwrite: bool = False,
    record: str = OWN,
    places: Sequence[str] = (),
    host: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Iterator[RunFolder]:
    """Work alone in the folder `path`, on one run of `command` with `options`.

    The folder belongs to the run, unless `record` is not run.json: then the run is a guest.

    Args:
        path: a folder that is new, empty, or of this run.
        command: the command of the run.
        options: the options that determine the result.
        overwrite: delete the files of another run of the command, and only those, and begin anew.
        record: the file name of the run's record.
        places: names in the folder that the run may write to; files of others there are refused now.
        host: a folder of another run that a guest may write into.
        defaults: the defaults of the options, for records that are older than an option.

    Raises:
        UsageError: the folder holds something else, or a run with other options (the differences are named).
        RunError: another process is working in the folder.
    """
    request = Claim(path, command, options, record, places, host, defaults=defaults)
    request.refuse(overwrite)
    with _listed_as_step(path, record), _locked(path, request.ledger, shared=False) as lock:
        if lock is None:
            raise RunError(f"another process is working in {str(path)!r}; wait for it or give another --out")
        request.refuse(overwrite)
        with request.ledger.active():
            request.begin(overwrite)
            yield RunFolder(path, path / record, request.open_record())


@dataclass
class SharedFolder(RunFolder):
    """A folder in which several processes work on one run."""

    alone: bool = True
    lock: Lock | None = None

    def settle(self) -> None:
        """Let other processes in, once the exclusive work is done."""
        if self.lock is not None:
            self.lock.share()


@contextlib.contextmanager
def share(
    path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False, places: Sequence[str] = ()
) -> Iterator[SharedFolder]:
    """Work in the folder `path` beside other processes with the same `options`.

    Raises:
        UsageError: the folder holds something else, or a run with other options (the differences are named).
        RunError: `overwrite` while another process is working there.
    """
    request = Claim(path, command, options, OWN, places, grows=True)
    request.refuse(overwrite)
    with _listed_as_step(path, OWN), _locked(path, request.ledger, shared=True) as lock:
        assert lock is not None
        if overwrite and not lock.alone:
            raise RunError(f"another process is working in {str(path)!r}: it cannot be overwritten")
        request.refuse(overwrite)
        with request.ledger.active():
            if lock.alone:
                request.begin(overwrite)
            folder = SharedFolder(path, path / OWN, request.open_record(), alone=lock.alone, lock=lock)
            yield folder


@contextlib.contextmanager
def step_folder(path: Path, record: str) -> Iterator[Ledger]:
    """Write in a folder that no other process uses, as a step of a larger run; the files written are listed."""
    with _listed_as_step(path, record):
        prepare_place(path)
        with Ledger(path, record).active() as ledger:
            ledger.delete_temporaries()
            yield ledger


def discard_step(path: Path, *records: str) -> None:
    """Delete the files of a step by its ledgers; damaged files, and those of versions without ledgers, are set aside.

    Raises:
        UsageError: the folder holds a file that the step did not write.
    """
    ledgers = [ledger for ledger in (Ledger(path, record) for record in records) if ledger.exists()]
    ledger_files = {ledger.file for ledger in ledgers}
    if ledgers and (foreign := [item for item in ledgers[0].unlisted() if item not in ledger_files]):
        raise UsageError(f"{say_paths(foreign, path)} in {path} is in the way: the step did not write it; move it")
    delete_run(path, *records)
    if not os.path.lexists(path):
        return
    aside = path.with_name(f".{path.name}.{process_name()}.{secrets.token_hex(3)}.aside")
    path.rename(aside)
    log.warning("warning: the damaged files of %s were moved to %s", path, aside)


@contextlib.contextmanager
def _listed_as_step(path: Path, record: str) -> Iterator[None]:
    """List the folder as a step in the ledger of the enclosing run, if there is one."""
    ledger = ledger_of(path)
    if ledger is not None:
        ledger.refuse_links(path)
        ledger.note(path, f"{STEP}{record}")
    yield


@contextlib.contextmanager
def _locked(path: Path, ledger: Ledger, shared: bool) -> Iterator[Lock | None]:
    """Hold the folder's lock; None if another process holds it exclusively. A refused process leaves nothing behind."""
    existed = path.exists()
    prepare_place(path)
    lock = open_lock(path / LOCK, wait=shared)
    try:
        yield lock if shared or lock.alone else None
    finally:
        if lock.made and not ledger.exists():  # refused before anything was written
            (path / LOCK).unlink(missing_ok=True)
            if not existed:
                remove_empty(path)
        os.close(lock.descriptor)
