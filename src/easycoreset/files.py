"""Write files atomically, without replacing the files of others; read and write JSON."""

import errno
import functools
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from easycoreset.errors import MAX_MESSAGE, RunError, UsageError, shorten
from easycoreset.file_lists import FOLDER_MARK, TEMPORARY_MARK, check_free, file_list_of
from easycoreset.memory import file_size_limit
from easycoreset.paths import cache_sha256, is_plain_file, remove_empty, sha256_of_file

SCHEMA_VERSION = 1
_UMASK = os.umask(0)
os.umask(_UMASK)
FULL_DISK = 2**20  # bytes; a disk with less free space is full
MINIMUM_FREE = 16 * 2**20  # bytes; a run refuses to start on a fuller disk
MAX_JSON_BYTES = 2**28  # bytes of a JSON file that are read


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    In a run's folder, the file is listed in the run's file list, and replaces only files that the run wrote.

    Raises:
        UsageError: the path is taken by something that the run did not write.
        RunError: the file cannot be written.
    """
    file_list = file_list_of(path)
    check_free(path)
    make_folder(path.parent)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; it must be a file")
    temporary = temporary_beside(path)
    digest = ""
    if file_list is not None:
        file_list.add(temporary, TEMPORARY_MARK)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)  # safetensors makes files readable by their owner only
        if file_list is not None:
            file_list.add(path, digest := sha256_of_file(temporary))
        os.replace(temporary, path)
        if digest:
            cache_sha256(path, digest)
    except (RunError, UsageError):
        raise
    except Exception as error:
        raise RunError(f"{path} cannot be written: {describe_write_error(error, temporary)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file at a path that must be free; a file of the same content is left as it is.

    Raises:
        UsageError: the path is taken by something else.
        RunError: the file cannot be written.
    """
    make_folder(path.parent)
    temporary = temporary_beside(path)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)
        try:
            _link(temporary, path)  # fails if the path is taken, even if that happened a moment ago
        except FileExistsError:
            if not is_plain_file(path) or sha256_of_file(path) != sha256_of_file(temporary):
                raise UsageError(f"out: {path} exists, and nothing is replaced; give another name") from None
    except (RunError, UsageError):
        raise
    except Exception as error:
        raise RunError(f"{path} cannot be written: {describe_write_error(error, temporary)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def describe_write_error(error: Exception, file: Path) -> str:
    """Describe why a file cannot be written, in the system's words; torch, Arrow and safetensors each have others."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    limit = file_size_limit()
    size = file.stat().st_size if file.is_file() else 0
    free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else MINIMUM_FREE
    if limit is not None and size >= limit - 4096:
        return f"{os.strerror(errno.EFBIG)} (files may have {limit:,} bytes: ulimit -f)"
    if free < FULL_DISK:
        return f"{os.strerror(errno.ENOSPC)} ({free / 2**20:.0f} MB free)"
    return shorten(" ".join(str(error).split()) or type(error).__name__, 2 * MAX_MESSAGE)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with open(temporary, "rb") as source, open(path, "xb") as target:
            shutil.copyfileobj(source, target)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; folders that are made in a run's folder are listed in its file list."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        file_list = file_list_of(path)
        if file_list is not None:
            file_list.add(path, FOLDER_MARK)
        path.mkdir(exist_ok=True)


def temporary_beside(path: Path) -> Path:
    """A temporary path beside `path` that no other process uses, on any machine."""
    return path.with_name(f".{path.name[:100]}.{process_name()}.tmp")


def process_name() -> str:
    """A name unique to this process, even among machines that share a disk and reuse process numbers."""
    host = re.sub(r"[^\w-]", "-", platform.node())[:40] or "host"
    return f"{host}-{os.getpid()}-{_token(os.getpid())}"


@functools.cache  # by process number, because a forked process needs another token
def _token(pid: int) -> str:
    return secrets.token_hex(6)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UsageError: the file is missing or is not a JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(f"{path}: too large for a JSON file that easycoreset wrote")
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a JSON object")
    return value


def make_writable_folder(folder: Path) -> None:
    """Make `folder` and check that it is writable; if it is not, nothing is left behind.

    Raises:
        UsageError: no permission, not a folder, or no space.
    """
    missing = [parent for parent in (folder, *folder.absolute().parents) if not parent.exists()]
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:  # unnamed, where the system supports it
            probe.write(b"x" * 4096)
        free = shutil.disk_usage(folder).free
        problem = f"{free / 2**20:.0f} MB free; at least 16 MB are needed" if free < MINIMUM_FREE else ""
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        for parent in missing:
            remove_empty(parent)
        raise UsageError(f"out: cannot write into {str(folder)!r}: {problem}")
