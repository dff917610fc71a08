"""Output folders of exports: built under a temporary name and renamed, so that no foreign file is overwritten."""

import contextlib
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.files import SCHEMA_VERSION, make_writable_folder, process_name, write_json
from easycoreset.paths import is_plain_file, sha256_of_file
from easycoreset.records import read_record
from easycoreset.versions import command_line, versions

RECORD_NAME = "export.json"


@contextlib.contextmanager
def new_output_folder(out: Path, form: str, facts: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder to fill, which is renamed to `out` when the `with` block ends without an error.

    Args:
        out: a new or empty folder, or the unchanged folder of an earlier export.
        form: the format, for `export.json`.
        facts: further fields of `export.json`.

    Raises:
        UsageError: `out` is a file, or holds files that no export wrote.
    """
    target = Path(os.path.abspath(out))
    _restore_previous(target)
    check_replaceable(out)
    make_writable_folder(target.parent)
    new, old = (target.with_name(f".{target.name[:100]}.{process_name()}.{end}") for end in ("new", "old"))
    try:
        new.mkdir()
        yield new
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": "export",
            "format": form,
            **facts,
            "command_line": command_line(),
            "versions": versions(),
            "contents": _hash_contents(new),
        }
        write_json(new / RECORD_NAME, record)
        _replace(new, target, old)
    finally:
        if new.exists():
            shutil.rmtree(new)  # created above, under a name that is unique to this process


def _restore_previous(target: Path) -> None:
    """Rename an earlier export back to `target` if a process was killed while replacing it."""
    for old in target.parent.glob(f".{glob.escape(target.name[:100])}.*.old"):
        with contextlib.suppress(UsageError, OSError):
            check_replaceable(old)
            if os.path.lexists(target):
                shutil.rmtree(old)  # unchanged since its export, and already replaced by another
            else:
                os.rename(old, target)


def _replace(new: Path, target: Path, old: Path) -> None:
    """Rename `new` to `target`; an earlier export there is moved to `old`, checked again and deleted."""
    if not target.exists():
        os.rename(new, target)
        return
    os.rename(target, old)
    try:
        check_replaceable(old, target)
        os.rename(new, target)
    except (OSError, UsageError):
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def check_replaceable(folder: Path, out: Path | None = None) -> None:
    """Refuse a file, a link, a folder whose files no export wrote, and an exported folder that was changed since.

    Args:
        folder: the folder to check.
        out: the path to name in error messages; None: `folder`.

    Raises:
        UsageError: any of these.
    """
    shown = repr(str(folder if out is None else out))
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"out must be a folder; {shown} is a {'link' if folder.is_symlink() else 'file'}")
    if not any(folder.iterdir()):
        return
    record_file = folder / RECORD_NAME
    if not is_plain_file(record_file) or read_record(record_file).get("command") != "export":
        raise UsageError(f"out: {shown} is not empty and no export wrote it; give another --out")
    if read_record(record_file).get("contents") != _hash_contents(folder):
        raise UsageError(
            f"out: files in {shown} were changed, added or removed since it was exported (or version "
            "0.1 exported it); give another --out"
        )


def _hash_contents(folder: Path) -> str:
    """A hash of all names in a folder except `export.json`, of the contents of files and of the targets of links."""
    lines: list[str] = []
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in [*folders, *files]):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                lines.append(f"{name}\0link\0{os.readlink(path)}")
            elif name != RECORD_NAME:
                lines.append(
                    f"{name}\0{'' if path.is_dir() else sha256_of_file(path) if is_plain_file(path) else 'other'}"
                )
    return hashlib.sha256("\0".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
