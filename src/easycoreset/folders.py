"""Folders in which one run works and a rerun goes on: looked at first, touched only where they are the run's own."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.errors import OtherRunError, RunError, UsageError, quote
from easycoreset.files import SCHEMA_VERSION, prepare_place, process_name, write_json
from easycoreset.ledgers import (
    LOCK,
    SHOWN,
    STEP,
    Ledger,
    delete_run,
    digest_of,
    is_plain_file,
    ledger_of,
    remove_empty,
    say_paths,
)
from easycoreset.locks import Lock, open_lock
from easycoreset.records import read_record
from easycoreset.versions import command_line, versions

OWN = "run.json"  # the record of the run that a folder belongs to; other records are guests


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
def claim(path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False, record: str = OWN,
          places: Sequence[str] = (), host: Path | None = None) -> Iterator[RunFolder]:  # fmt: skip
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

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: another process works in the folder now.
    """
    look = _Look(path, command, options, record, places, host)
    look.refuse(overwrite)
    with _enclosed(path, record), _locked(path, look.ledger, shared=False) as lock:
        if lock is None:
            raise RunError(f"another process is working in {str(path)!r}; wait for it or give another --out")
        look.refuse(overwrite)
        with look.ledger.active():
            look.begin(overwrite)
            yield RunFolder(path, path / record, look.open_record())


@dataclass
class SharedFolder(RunFolder):
    """A folder in which several processes work on one run."""

    alone: bool = True
    lock: int = -1

    def settle(self) -> None:
        """Let the other processes in: what must be done alone is done."""
        fcntl.flock(self.lock, fcntl.LOCK_SH)


@contextlib.contextmanager
def share(path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False,
          places: Sequence[str] = ()) -> Iterator[SharedFolder]:  # fmt: skip
    """Work in the folder `path` beside other processes with the same `options`.

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: `overwrite` while another process works there.
    """
    look = _Look(path, command, options, OWN, places)
    look.refuse(overwrite)
    with _enclosed(path, OWN), _locked(path, look.ledger, shared=True) as lock:
        assert lock is not None
        if overwrite and not lock.alone:
            raise RunError(f"another process is working in {str(path)!r}: it is not overwritten")
        look.refuse(overwrite)
        with look.ledger.active():
            if lock.alone:
                look.begin(overwrite)
            folder = SharedFolder(path, path / OWN, look.open_record(), alone=lock.alone, lock=lock.descriptor)
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
    """Delete a step's folder by its ledgers; where something else is in it, set the rest aside, so that it is kept."""
    delete_run(path, *records)
    if not os.path.lexists(path):
        return
    aside = path.with_name(f".{path.name}.{process_name()}.{secrets.token_hex(3)}.aside")
    path.rename(aside)
    log.warning("warning: %s held what it did not write, or what was damaged: that is in %s now", path, aside)


class _Look:
    """What a folder holds before anything is touched, and whether a run may begin or go on there."""

    def __init__(self, path: Path, command: str, options: dict[str, Any], record: str, places: Sequence[str],
                 host: Path | None = None) -> None:  # fmt: skip
        self.path, self.command, self.options = path, command, options
        self.file, self.places, self.host = path / record, tuple(places), host
        self.ledger = Ledger(path, record)

    def refuse(self, overwrite: bool) -> None:
        """Raise where the run may not work here; nothing is changed."""
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise UsageError(f"out: cannot write into {str(self.path)!r}: it is not a folder")
        if not os.path.lexists(self.file):
            self._refuse_without_record()
        else:
            self._refuse_other(overwrite)

    def _refuse_without_record(self) -> None:
        """A folder without our record must be empty, or a host of guests; what a kill left of a beginning is ours."""
        listed = self.ledger.entries()
        foreign = [item for item in sorted(self.path.iterdir()) if not self._is_beginning(item, listed)]
        if self.file.name == OWN and foreign:
            raise UsageError(f"out: {str(self.path)!r} is not empty and holds no run.json (but "
                             f"{say_paths(foreign, self.path)}); give another --out")  # fmt: skip
        hosted = self.host is not None and self.host.resolve() == self.path.resolve()
        if self.file.name != OWN and foreign and not hosted:
            raise UsageError(f"out: {str(self.path)!r} holds what {self.command} did not write "
                             f"({say_paths(foreign, self.path)}); give another --out")  # fmt: skip
        self._refuse_in_the_way()

    def _is_beginning(self, item: Path, listed: dict[str, set[str]]) -> bool:
        return (item.name in (LOCK, self.ledger.file.name) and is_plain_file(item)) or item.name in listed

    def _refuse_other(self, overwrite: bool) -> None:
        listed = self.ledger.exists()
        problem = "it is no file" if not is_plain_file(self.file) else ""
        made: dict[str, Any] = {}
        if not problem:
            try:
                made = _read_record(self.file)
            except UsageError as error:
                problem = str(error)
        if problem and not (overwrite and listed and is_plain_file(self.file)):
            if listed and is_plain_file(self.file):
                raise UsageError(f"{self.file} is corrupt ({problem}); --overwrite begins anew")
            raise UsageError(f"{self.file} is no record that easycoreset wrote ({problem}); give another --out")
        if made and made.get("command") != self.command:
            raise UsageError(
                f"out: {self.file} was made with the command {quote(made.get('command'))}; give another --out"
            )
        if not overwrite:
            difference = _difference(made, self.options)
            if difference:
                raise OtherRunError(f"out: {self.file} was made with {difference}; give another --out, or --overwrite")
        elif not listed:
            raise UsageError(f"out: {str(self.path)!r} has no list of what {self.command} wrote there (version 0.1 "
                             "kept none): nothing is deleted; give another --out")  # fmt: skip
        if overwrite or made.get("status") != "done":
            self._refuse_in_the_way()

    def _refuse_in_the_way(self) -> None:
        foreign = self.ledger.foreign(self.places)
        if foreign and (self.ledger.exists() or not self.file.exists()):
            raise UsageError(f"out: in {str(self.path)!r} {say_paths(foreign, self.path)} is in the way: "
                             f"{self.command} did not write it, or it was changed since; move it, or give another "
                             "--out")  # fmt: skip

    def begin(self, overwrite: bool) -> None:
        """Delete what the run before wrote, where `overwrite` says so, and what a killed process left half written."""
        if overwrite and self.ledger.exists():
            self.ledger.delete()
            self.ledger.forget()
        self.ledger.delete_temporaries()

    def open_record(self) -> dict[str, Any]:
        """The record that is there, or a new one."""
        if self.file.exists():
            if not self.ledger.entries().get(self.file.name):  # of a version that kept no list
                self.ledger.note(self.file, digest_of(self.file))
            return _read_record(self.file)
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "status": "running",
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "options": self.options,
            "command_line": command_line(),
            "versions": versions(),
        }
        write_json(self.file, record)
        return record


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
    lock = open_lock(path / LOCK)
    try:
        if shared and not lock.alone:
            fcntl.flock(lock.descriptor, fcntl.LOCK_SH)
        yield lock if shared or lock.alone else None
    finally:
        if lock.made and not ledger.exists():  # refused before anything was written
            (path / LOCK).unlink(missing_ok=True)
            if not existed:
                remove_empty(path)
        os.close(lock.descriptor)


def _read_record(file: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        UsageError: it is none.
    """
    record = read_record(file)
    if record.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"schema_version must be {SCHEMA_VERSION}; it is {quote(record.get('schema_version'))}")
    if not isinstance(record.get("options"), dict) or not isinstance(record.get("command"), str):
        raise UsageError("command and options are missing")
    return record


def _difference(record: dict[str, Any], options: dict[str, Any]) -> str:
    """Which options differ from those of a record, down to the single values of nested ones."""
    made, now = _flat(record["options"]), _flat(json.loads(json.dumps(options)))
    later = [name for name in options if name not in record["options"] and options[name] in (None, [], "", False)]
    names = [name for name in sorted({*made, *now}) if made.get(name) != now.get(name) and name not in later]
    data = [name for name in names if name.partition("[")[0] == "fingerprint"]
    said = ["other data (samples were added, removed, changed or relabelled since)"] if data else []
    others = [name for name in names if name not in data]
    said += [f"{name}={quote(made.get(name))} (now {quote(now.get(name))})" for name in others[:SHOWN]]
    return ", ".join(said) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by their places: `bases[0].lr`."""
    if isinstance(value, dict) and (value or not name):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else key).items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for row, item in enumerate(value) for k, v in _flat(item, f"{name}[{row}]").items()}
    return {name: value}
