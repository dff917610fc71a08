"""What a folder holds before anything in it is touched, and whether a run may begin or go on there."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easycoreset.errors import OtherRunError, UsageError, quote
from easycoreset.files import SCHEMA_VERSION, process_name, read_json, write_json
from easycoreset.ledgers import LOCK, Ledger
from easycoreset.paths import SHOWN, digest_of, is_plain_file, say_paths
from easycoreset.records import read_record
from easycoreset.versions import command_line, versions

RENAMED = {"skip_broken": "skip_unreadable"}  # options that version 0.1 recorded under another name
OWN = "run.json"  # the record of the run that a folder belongs to; other records are guests


class Claim:
    """What a folder holds before anything is touched, and whether a run may begin or go on there."""

    def __init__(
        self,
        path: Path,
        command: str,
        options: dict[str, Any],
        record: str,
        places: Sequence[str],
        host: Path | None = None,
        grows: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.command = command
        self.options = options
        self.grows = grows
        self.defaults = defaults or {}
        self.file = path / record
        self.places = tuple(places)
        self.host = host
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
        if self.ledger.exists():  # a run of ours was here, and its record was deleted when its process was killed
            foreign = []
        if self.file.name == OWN and foreign:
            raise UsageError(
                f"out: {str(self.path)!r} is not empty and holds no run.json (but "
                f"{say_paths(foreign, self.path)}); give another --out"
            )
        hosted = self.host is not None and self.host.resolve() == self.path.resolve()
        if self.file.name != OWN and foreign and not hosted:
            raise UsageError(
                f"out: {str(self.path)!r} holds what {self.command} did not write "
                f"({say_paths(foreign, self.path)}); give another --out"
            )
        self._refuse_in_the_way()

    def _is_beginning(self, item: Path, listed: Mapping[str, list[str]]) -> bool:
        return (item.name in (LOCK, self.ledger.file.name) and is_plain_file(item)) or item.name in listed

    def _refuse_other(self, overwrite: bool) -> None:
        listed = bool(self.ledger.entries().get(self.file.name))
        problem = "it is no file" if not is_plain_file(self.file) else ""
        made: dict[str, Any] = {}
        if not problem:
            try:
                made = _read_record(self.file)
            except UsageError as error:
                problem = str(error)
        if problem and not (listed and _is_damaged(self.file)):
            raise UsageError(f"{self.file} is no record that easycoreset wrote ({problem}); give another --out")
        if problem and not overwrite:
            raise UsageError(f"{self.file} is corrupt ({problem}); --overwrite begins anew")
        if made and made.get("command") != self.command:
            raise UsageError(
                f"out: {self.file} was made with the command {quote(made.get('command'))}; give another --out"
            )
        if not overwrite:
            difference = _difference(made["options"], self.options, self.defaults)
            if difference:
                raise OtherRunError(f"out: {self.file} was made with {difference}; give another --out, or --overwrite")
        elif not listed:
            raise UsageError(
                f"out: {str(self.path)!r} has no list of what {self.command} wrote there (version 0.1 "
                "kept none): nothing is deleted; give another --out"
            )
        if overwrite or made.get("status") != "done":
            self._refuse_in_the_way()

    def _refuse_in_the_way(self) -> None:
        foreign = [path for path in self.ledger.foreign(self.places) if path != self.file or not _is_damaged(path)]
        if foreign and self.file.exists() and not self.ledger.exists():
            if not self.grows:
                raise OtherRunError(
                    f"out: {str(self.path)!r} is unfinished and has no list of what it wrote "
                    "(version 0.1 kept none); give another --out"
                )
        elif foreign:
            raise UsageError(
                f"out: in {str(self.path)!r} {say_paths(foreign, self.path)} is in the way: "
                f"{self.command} did not write it, or it was changed since; move it, or give another "
                "--out"
            )

    def begin(self, overwrite: bool) -> None:
        """Delete what the run before wrote, where `overwrite` says so, and what a killed process left half written.

        What is left of a folder whose record is gone was being deleted when its process was killed.
        """
        if self.ledger.exists() and (overwrite or not os.path.lexists(self.file)):
            self.ledger.delete()
            if os.path.lexists(self.file):  # it is damaged; whoever damaged it may want to look at it
                self.file.rename(self.path / f".{self.file.name}.{process_name()}.aside")
            self.ledger.clear()
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


def _is_damaged(file: Path) -> bool:
    """Whether a record is a file that is no JSON any more, as after a fault of the disk."""
    try:
        read_json(file)
    except UsageError:
        return is_plain_file(file)
    return False


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
    if record.get("status") == "done" and "summary" not in record:
        raise UsageError("the summary of a finished run is missing")
    return record


def _difference(recorded: Mapping[str, Any], options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Which options differ from those that were recorded, down to the single values of nested ones.

    An option that the record lacks is newer than it, and had its default.
    """
    recorded = {RENAMED.get(name, name): value for name, value in recorded.items()}
    made = _flat(recorded)
    now = _flat(json.loads(json.dumps(options)))
    absent = {name for name in options if name not in recorded}
    newer = {name for name in absent if options[name] in (None, [], "", False, defaults.get(name))}
    names = [name for name in sorted({*made, *now}) if made.get(name) != now.get(name) and name not in newer]
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
