"""Folders that an export fills: built beside their place and renamed, never over what another wrote."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.files import SCHEMA_VERSION, command_line, prepare_place, read_json, versions, write_json

MARK = "export.json"


@contextlib.contextmanager
def fresh_folder(out: Path, form: str, facts: dict[str, Any]) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place `out` when the `with` block ends without an error.

    Args:
        out: new, empty, or a folder of an earlier export to which nothing was added.
        form: the format, for `export.json`.
        facts: what else `export.json` says.

    Raises:
        UsageError: `out` is a file, or holds what no export wrote.
    """
    place = out.resolve()
    check_free(place, out)
    prepare_place(place.parent)
    new, old = (place.with_name(f".{place.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        new.mkdir()
        yield new
        record = {"schema_version": SCHEMA_VERSION, "command": "export", "format": form, **facts,
                  "command_line": command_line(), "versions": versions(), "names": _digest(new)}  # fmt: skip
        write_json(new / MARK, record)
        _swap(new, place, old)
    finally:
        for left in (new, old):
            if left.exists():
                shutil.rmtree(left)


def _swap(new: Path, place: Path, old: Path) -> None:
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(new, place)
    except OSError:
        if old.exists():
            os.rename(old, place)
        raise


def check_free(place: Path, out: Path) -> None:
    """Refuse a file, and a folder that holds what no export wrote."""
    if not os.path.lexists(place):
        return
    if not place.is_dir():
        raise UsageError(f"out must be a folder; {str(out)!r} is a file")
    if not any(place.iterdir()):
        return
    mark = place / MARK
    if not mark.is_file() or read_json(mark).get("command") != "export":
        raise UsageError(f"out: {str(out)!r} is not empty and no export wrote it; give another --out")
    if read_json(mark).get("names") != _digest(place):
        raise UsageError(f"out: files were added to {str(out)!r} or taken from it since it was exported; "
                         "give another --out")  # fmt: skip


def _digest(folder: Path) -> str:
    """A hash of the names of everything in a folder but the mark."""
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        names += [os.path.relpath(os.path.join(place, name), folder) for name in [*folders, *files]]
    return hashlib.sha256("\0".join(sorted(set(names) - {MARK})).encode("utf-8", "surrogateescape")).hexdigest()
