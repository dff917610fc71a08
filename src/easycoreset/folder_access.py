"""Check a run's folder before anything is written: the run may begin or resume there, or is refused."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easycoreset.errors import OtherRunError, UsageError, quote
from easycoreset.file_lists import LOCK, FileList
from easycoreset.files import SCHEMA_VERSION, process_name, read_json, write_json
from easycoreset.paths import MAX_SHOWN, format_paths, is_plain_file, sha256_of_file
from easycoreset.records import read_record
from easycoreset.versions import command_line, versions

RENAMED = {
    "skip_broken": "skip_unreadable",
    "pictures": "images",
}  # options that version 0.1 recorded under another name
RUN_RECORD = "run.json"  # the record of the run that owns the folder
PLAN_RECORD = "plan.json"  # the record of the plan that owns the folder; other records are guests
OWNER_RECORDS = (RUN_RECORD, PLAN_RECORD)


class FolderAccess:
    """One run's claim on a folder: compares the folder with the run, then opens or creates the run's record.

    Args:
        path: the folder.
        command: the command of the run.
        options: the options that determine the result.
        record: the file name of the run's record.
        output_names: names in the folder that the run may write to.
        host: a folder of another run that a guest may write into.
        resumable: an unfinished folder without a file list may be continued.
        defaults: the defaults of the options, for records that are older than an option.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        options: dict[str, Any],
        record: str,
        output_names: Sequence[str],
        host: Path | None = None,
        resumable: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.command = command
        self.options = options
        self.resumable = resumable
        self.defaults = defaults or {}
        self.file = path / record
        self.output_names = tuple(output_names)
        self.host = host
        self.file_list = FileList(path, record)

    def check(self, overwrite: bool) -> None:
        """Raise unless the run may work in the folder; nothing is changed.

        Raises:
            UsageError: the folder holds something else, or a run with other options.
        """
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise UsageError(f"out: cannot write into {str(self.path)!r}: it is not a folder")
        if not os.path.lexists(self.file):
            self._refuse_without_record()
        else:
            self._refuse_other_run(overwrite)

    def _refuse_without_record(self) -> None:
        """Refuse a folder without our record, unless it is empty, a host, or holds only what a killed start left."""
        entries = self.file_list.entries()
        foreign = [item for item in sorted(self.path.iterdir()) if not self._is_leftover(item, entries)]
        if self.file_list.exists():  # a killed process had deleted the record of its run
            foreign = []
        if self.file.name in OWNER_RECORDS and foreign:
            raise UsageError(
                f"out: {str(self.path)!r} is not empty and holds no {self.file.name} (it holds "
                f"{format_paths(foreign, self.path)}); give another --out"
            )
        hosted = self.host is not None and self.host.resolve() == self.path.resolve()
        if self.file.name not in OWNER_RECORDS and foreign and not hosted:
            raise UsageError(
                f"out: {str(self.path)!r} holds files that {self.command} did not write "
                f"({format_paths(foreign, self.path)}); give another --out"
            )
        self._refuse_foreign_files()

    def _is_leftover(self, item: Path, entries: Mapping[str, list[str]]) -> bool:
        return (item.name in (LOCK, self.file_list.file.name) and is_plain_file(item)) or item.name in entries

    def _refuse_other_run(self, overwrite: bool) -> None:
        listed = bool(self.file_list.entries().get(self.file.name))
        problem = "it is not a file" if not is_plain_file(self.file) else ""
        record: dict[str, Any] = {}
        if not problem:
            try:
                record = _read_record(self.file)
            except UsageError as error:
                problem = str(error)
        if problem and not (listed and _is_damaged(self.file)):
            raise UsageError(f"{self.file} is not a record that easycoreset wrote ({problem}); give another --out")
        if problem and not overwrite:
            raise UsageError(f"{self.file} is corrupt ({problem}); --overwrite begins anew")
        if record and record.get("command") != self.command:
            raise UsageError(
                f"out: {self.file} was made with the command {quote(record.get('command'))}; give another --out"
            )
        if not overwrite:
            differences = _describe_differences(record["options"], self.options, self.defaults)
            if differences:
                raise OtherRunError(f"out: {self.file} was made with {differences}; give another --out, or --overwrite")
        elif not listed:
            raise UsageError(
                f"out: {str(self.path)!r} has no list of the files that {self.command} wrote (version 0.1 "
                "kept none): nothing is deleted; give another --out"
            )
        if overwrite or record.get("status") != "done":
            self._refuse_foreign_files()

    def _refuse_foreign_files(self) -> None:
        foreign = [
            path
            for path in self.file_list.find_conflicts(self.output_names)
            if path != self.file or not _is_damaged(path)
        ]
        if foreign and self.file.exists() and not self.file_list.exists():
            if not self.resumable:
                raise OtherRunError(
                    f"out: {str(self.path)!r} is unfinished and has no list of the files that it wrote "
                    "(version 0.1 kept none); give another --out"
                )
        elif foreign:
            raise UsageError(
                f"out: in {str(self.path)!r} {format_paths(foreign, self.path)} is in the way: "
                f"{self.command} did not write it, or it was changed since; move it, or give another "
                "--out"
            )

    def prepare(self, overwrite: bool) -> None:
        """With `overwrite`, delete the files of the previous run; always delete the temporary files of killed runs.

        A file list without a record means that a process was killed while it deleted a run: the rest is deleted.
        """
        if self.file_list.exists() and (overwrite or not os.path.lexists(self.file)):
            self.file_list.delete()
            if os.path.lexists(self.file):  # a damaged record is kept for inspection
                self.file.rename(self.path / f".{self.file.name}.{process_name()}.aside")
            self.file_list.clear()
        self.file_list.delete_temporaries()

    def open_record(self) -> dict[str, Any]:
        """Read the record, or write a new one."""
        if self.file.exists():
            if not self.file_list.entries().get(self.file.name):  # written by a version without file lists
                self.file_list.add(self.file, sha256_of_file(self.file))
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
    """Whether a record is a plain file but not valid JSON, as after a disk fault."""
    try:
        read_json(file)
    except UsageError:
        return is_plain_file(file)
    return False


def _read_record(file: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        UsageError: the file is not a valid record.
    """
    record = read_record(file)
    if record.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(f"schema_version must be {SCHEMA_VERSION}; got {quote(record.get('schema_version'))}")
    if not isinstance(record.get("options"), dict) or not isinstance(record.get("command"), str):
        raise UsageError("command and options are missing")
    if record.get("status") == "done" and "summary" not in record:
        raise UsageError("the summary of a finished run is missing")
    return record


def _describe_differences(recorded: Mapping[str, Any], options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Describe the options that differ from the recorded ones, down to single values of nested options.

    An option that the record lacks was added after the run, which therefore ran with the default.
    """
    recorded = {RENAMED.get(name, name): value for name, value in recorded.items()}
    old = _flatten(recorded)
    new = _flatten(json.loads(json.dumps(options)))
    absent = {name for name in options if name not in recorded}
    unchanged = {name for name in absent if options[name] in (None, [], "", False, defaults.get(name))}
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name) and name not in unchanged]
    data_names = [name for name in names if name.partition("[")[0] == "fingerprint"]
    parts = ["other data (samples were added, removed, changed or relabelled since)"] if data_names else []
    image_names = [name for name in names if name == "images"]  # a digest of the images that were predicted
    parts += ["other images (some were added, removed or changed since)"] if image_names else []
    others = [name for name in names if name not in (*data_names, *image_names)]
    parts += [f"{name}={quote(old.get(name))} (now {quote(new.get(name))})" for name in others[:MAX_SHOWN]]
    return ", ".join(parts) + (f" and {len(others) - MAX_SHOWN} more" if len(others) > MAX_SHOWN else "")


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Map the path of each nested value, like `bases[0].lr`, to the value."""
    if isinstance(value, dict) and (value or not name):
        return {
            k: v for key, item in value.items() for k, v in _flatten(item, f"{name}.{key}" if name else key).items()
        }
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for i, item in enumerate(value) for k, v in _flatten(item, f"{name}[{i}]").items()}
    return {name: value}
