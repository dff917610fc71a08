"""Folders that an export fills: built beside their place and renamed, never over what another wrote."""

import contextlib
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.files import SCHEMA_VERSION, prepare_place, process_name, write_json
from easycoreset.paths import digest_of, is_plain_file
from easycoreset.records import read_record
from easycoreset.versions import command_line, versions

MARK = "export.json"


@contextlib.contextmanager
def fresh_folder(out: Path, form: str, facts: dict[str, Any]) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place `out` when the `with` block ends without an error.

    Args:
        out: new, empty, or a folder of an earlier export in which nothing was changed.
        form: the format, for `export.json`.
        facts: what else `export.json` says.

    Raises:
        UsageError: `out` is a file, or holds what no export wrote.
    """
    place = Path(os.path.abspath(out))
    _restore(place)
    check_free(out)
    prepare_place(place.parent)
    new, old = (place.with_name(f".{place.name[:100]}.{process_name()}.{end}") for end in ("new", "old"))
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
            "contents": _digest(new),
        }
        write_json(new / MARK, record)
        _swap(new, place, old)
    finally:
        if new.exists():
            shutil.rmtree(new)  # made above, under a name that nobody else takes


def _restore(place: Path) -> None:
    """Give the earlier export back its name, where its process was killed before the new one had it."""
    for old in place.parent.glob(f".{glob.escape(place.name[:100])}.*.old"):
        with contextlib.suppress(UsageError, OSError):
            check_free(old)
            if os.path.lexists(place):
                shutil.rmtree(old)  # it is as it was exported, and another took its place
            else:
                os.rename(old, place)


def _swap(new: Path, place: Path, old: Path) -> None:
    """Put `new` in the place of an earlier export, which is looked at once more when nobody can find it any longer."""
    if not place.exists():
        os.rename(new, place)
        return
    os.rename(place, old)
    try:
        check_free(old, place)
        os.rename(new, place)
    except (OSError, UsageError):
        os.rename(old, place)
        raise
    shutil.rmtree(old)


def check_free(folder: Path, out: Path | None = None) -> None:
    """Refuse a file, a link, and a folder that holds what no export wrote, or that was changed since.

    Args:
        folder: looked at.
        out: what it is called in messages; None: the same.

    Raises:
        UsageError: any of these.
    """
    named = repr(str(folder if out is None else out))
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"out must be a folder; {named} is a {'link' if folder.is_symlink() else 'file'}")
    if not any(folder.iterdir()):
        return
    mark = folder / MARK
    if not is_plain_file(mark) or read_record(mark).get("command") != "export":
        raise UsageError(f"out: {named} is not empty and no export wrote it; give another --out")
    if read_record(mark).get("contents") != _digest(folder):
        raise UsageError(
            f"out: files in {named} were changed, added or taken away since it was exported (or version "
            "0.1 exported it); give another --out"
        )


def _digest(folder: Path) -> str:
    """A hash of the names of everything in a folder but the mark, of what the files hold, and where links lead."""
    lines: list[str] = []
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in [*folders, *files]):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                lines.append(f"{name}\0link\0{os.readlink(path)}")
            elif name != MARK:
                lines.append(f"{name}\0{'' if path.is_dir() else digest_of(path) if is_plain_file(path) else 'other'}")
    return hashlib.sha256("\0".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
