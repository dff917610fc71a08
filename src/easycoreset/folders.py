"""Folders in which one run works and a rerun goes on: looked at first, touched only where they are the run's own."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easycoreset.claims import OWN, Claim
from easycoreset.console import log
from easycoreset.errors import RunError, UsageError
from easycoreset.files import prepare_place, process_name, write_json
from easycoreset.ledgers import LOCK, STEP, Ledger, delete_run, ledger_of
from easycoreset.locks import Lock, open_lock
from easycoreset.paths import remove_empty, say_paths


@dataclass
class RunFolder:
    """A folder in which one run works: what it was made with, and whether it is finished."""

    path: Path
    file: Path
    record: dict[str, Any] = field(default_factory=dict)
    writes: bool = True  # of several processes of one run the first alone

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return self.record.get("status") == "done"

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished, with what is worth knowing about it."""
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
    """Work alone in the folder `path`, on one run of `command` with `options` (those that make the result).

    The folder belongs to the run, unless `record` is another file than run.json: that one is a guest.

    Args:
        path: new, empty, or a folder of this run.
        command: whose run it is.
        options: that make the result.
        overwrite: begin anew where another run of the command was: what that one wrote is deleted, and no more.
        record: the file that tells of the run.
        places: names in the folder that the run may write to; what another wrote there is refused now.
        host: a folder of something else that a guest may write into.
        defaults: of the options, which an older record may lack.

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: another process works in the folder now.
    """
    wanted = Claim(path, command, options, record, places, host, defaults=defaults)
    wanted.refuse(overwrite)
    with _enclosed(path, record), _locked(path, wanted.ledger, shared=False) as lock:
        if lock is None:
            raise RunError(f"another process is working in {str(path)!r}; wait for it or give another --out")
        wanted.refuse(overwrite)
        with wanted.ledger.active():
            wanted.begin(overwrite)
            yield RunFolder(path, path / record, wanted.open_record())


@dataclass
class SharedFolder(RunFolder):
    """A folder in which several processes work on one run."""

    alone: bool = True
    lock: Lock | None = None

    def settle(self) -> None:
        """Let the other processes in: what must be done alone is done."""
        if self.lock is not None:
            self.lock.share()


@contextlib.contextmanager
def share(
    path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False, places: Sequence[str] = ()
) -> Iterator[SharedFolder]:
    """Work in the folder `path` beside other processes with the same `options`.

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: `overwrite` while another process works there.
    """
    wanted = Claim(path, command, options, OWN, places, grows=True)
    wanted.refuse(overwrite)
    with _enclosed(path, OWN), _locked(path, wanted.ledger, shared=True) as lock:
        assert lock is not None
        if overwrite and not lock.alone:
            raise RunError(f"another process is working in {str(path)!r}: it is not overwritten")
        wanted.refuse(overwrite)
        with wanted.ledger.active():
            if lock.alone:
                wanted.begin(overwrite)
            folder = SharedFolder(path, path / OWN, wanted.open_record(), alone=lock.alone, lock=lock)
            yield folder


@contextlib.contextmanager
def step_folder(path: Path, record: str) -> Iterator[Ledger]:
    """Write in a folder that no other process has, as a step of a larger run: what is written there is listed."""
    with _enclosed(path, record):
        prepare_place(path)
        with Ledger(path, record).active() as ledger:
            ledger.delete_temporaries()
            yield ledger


def discard_step(path: Path, *records: str) -> None:
    """Delete a step's folder by its ledgers; what of it was damaged, or is of a version without lists, is set aside.

    Raises:
        UsageError: somebody else's file is in it.
    """
    ledgers = [ledger for ledger in (Ledger(path, record) for record in records) if ledger.exists()]
    if ledgers and (foreign := [item for item in ledgers[0].unlisted() if item not in {x.file for x in ledgers}]):
        raise UsageError(f"{say_paths(foreign, path)} in {path} is in the way: it was not written there; move it")
    delete_run(path, *records)
    if not os.path.lexists(path):
        return
    aside = path.with_name(f".{path.name}.{process_name()}.{secrets.token_hex(3)}.aside")
    path.rename(aside)
    log.warning("warning: what was damaged in %s is in %s now", path, aside)


@contextlib.contextmanager
def _enclosed(path: Path, record: str) -> Iterator[None]:
    """List a folder as a step of the run around it, where there is one."""
    around = ledger_of(path)
    if around is not None:
        around.refuse_links(path)
        around.note(path, f"{STEP}{record}")
    yield


@contextlib.contextmanager
def _locked(path: Path, ledger: Ledger, shared: bool) -> Iterator[Lock | None]:
    """Hold the folder's lock; None where another process has it alone. Who is refused leaves no trace."""
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
