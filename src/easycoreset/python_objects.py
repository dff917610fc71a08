"""Python objects in place of names: each is kept under a spelling of its type and content; options hold the spelling.

The spelling, `python.TYPE:xDIGEST`, is read like that of a user's module. It is recorded in place of the object, so a
run goes on with the same object and refuses another one.
"""

import atexit
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError, quote

PREFIX = "python."
DIGITS = 16  # hexadecimal digits of a digest that are part of a spelling
SPELLING = re.compile(rf"{re.escape(PREFIX)}\w+:x[0-9a-f]{{{DIGITS}}}(:|$)")
MENTIONED = re.compile(rf"{re.escape(PREFIX)}([\w\\]+):x([0-9a-f]{{{DIGITS}}})")  # in a text, escaped or not
BRIEF_DIGITS = 4
KEPT = 64  # most objects that are kept; the oldest is forgotten first
_objects: dict[str, Any] = {}  # spelling -> object
_folders: list[Path] = []  # the temporary folder of this process, once it is needed


def keep_object(name: str, digest: str, value: Any) -> str:
    """Keep an object for this process.

    Args:
        name: the name of its type or of its function.
        digest: hexadecimal digits that identify its content.
        value: the object.

    Returns:
        Its spelling.

    >>> keep_object("<lambda>", "0123456789abcdef", print)
    'python.lambda:x0123456789abcdef'
    """
    spelling = f"{PREFIX}{re.sub(r'[^A-Za-z0-9_]', '', name) or 'object'}:x{digest[:DIGITS]}"
    _objects.pop(spelling, None)
    _objects[spelling] = value
    while len(_objects) > KEPT:
        _objects.pop(next(iter(_objects)))
    return spelling


def is_object_spec(spec: str | None) -> bool:
    """Whether a spelling stands for an object of Python."""
    return spec is not None and SPELLING.match(spec) is not None


def name_briefly(text: str) -> str:
    """Replace spellings in a text by names for people, with some digits where a name stands for several things.

    >>> name_briefly("python.Net:x0123456789abcdef beats python.Other:x0123456789abcdef, but not Other")
    'Net beats Other:x0123, but not Other'
    """
    digests: dict[str, set[str]] = {}
    for name, digest in MENTIONED.findall(text):
        digests.setdefault(name, set()).add(digest)
    others = MENTIONED.sub("", text)
    unclear = {name for name in digests if len(digests[name]) > 1 or re.search(rf"\b{re.escape(name)}\b", others)}
    return MENTIONED.sub(
        lambda found: f"{found[1]}:x{found[2][:BRIEF_DIGITS]}" if found[1] in unclear else found[1], text
    )


def find_object(option: str, spec: str) -> Any:
    """The object of a spelling.

    Raises:
        UsageError: it is not in this process.
    """
    name = ":".join(spec.split(":")[:2])
    if name not in _objects:
        raise UsageError(f"{option} {quote(name)} was an object of Python, which this process lacks: give it again")
    return _objects[name]


def take_object(option: str, spec: str) -> Any:
    """The object of a spelling, which this process keeps no longer.

    Raises:
        UsageError: it is not in this process.
    """
    value = find_object(option, spec)
    del _objects[":".join(spec.split(":")[:2])]
    return value


def is_stored(path: Path) -> bool:
    """Whether a path is in the temporary folder of this process and is named by its content."""
    return bool(_folders) and path.parent == _folders[0]


def kept_objects() -> dict[str, Any]:
    """The objects that this process keeps, by their spellings."""
    return dict(_objects)


def restore_objects(objects: Mapping[str, Any]) -> None:
    """Keep the objects of another process."""
    _objects.update(objects)


def make_temporary_folder(prefix: str) -> Path:
    """A new folder below the temporary folder of this process, which goes when the process ends."""
    if not _folders:
        _folders.append(Path(tempfile.mkdtemp(prefix="easycoreset-")))
        atexit.register(shutil.rmtree, _folders[0], ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=_folders[0]))


def stored_file(name: str) -> Path:
    """The path of a file that stands for an object, in the temporary folder of this process; it may exist already."""
    if not _folders:
        make_temporary_folder("objects")
    return _folders[0] / name
