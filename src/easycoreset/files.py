"""Files that no reader sees half of, and folders that one process owns and a rerun continues."""

import contextlib
import fcntl
import functools
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from easycoreset.errors import OtherRunError, RunError, UsageError

SCHEMA_VERSION = 1
_UMASK = os.umask(0)
os.umask(_UMASK)
MINIMUM_FREE = 16 * 2**20  # bytes; a run refuses to start on a fuller disk


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is to be written there")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)  # safetensors writes files that only their owner may read
        os.replace(temporary, path)
    except (RunError, UsageError):
        raise
    except Exception as error:  # torch, Arrow and safetensors each have their own word for a full disk
        raise RunError(f"{path} cannot be written: {' '.join(str(error).split())}") from None
    finally:
        temporary.unlink(missing_ok=True)


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
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a JSON object")
    return value


def prepare_place(folder: Path) -> None:
    """Make `folder`, and find out now whether something can be written there.

    Raises:
        UsageError: no permission, not a folder, or no space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UsageError(f"out: cannot write into {str(folder)!r}: {error.strerror}") from None
    if free < MINIMUM_FREE:
        raise UsageError(f"out: {str(folder)!r} has {free / 2**20:.0f} MB free; at least 16 MB are needed")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), **source_commit()}
    for name in ("easycoreset", "torch", "torchvision", "numpy", "pyarrow", "scikit-learn"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def command_line() -> str | None:
    """The command line, where this process is one of ours."""
    ours = Path(sys.argv[0]).name in ("easycoreset", "__main__.py")
    return shlex.join(["easycoreset", *sys.argv[1:]]) if ours else None


@functools.cache
def source_commit() -> dict[str, str]:
    """The commit of the source tree, where this is one and git is there; "-dirty" where it was changed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--match="]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and (Path(__file__).parents[2] / ".git").exists():
            return {"commit": done.stdout.strip()}
    return {}


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
def claim(path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False,
          record: str = "run.json") -> Iterator[RunFolder]:  # fmt: skip
    """Work alone in the folder `path`, on one run of `command` with `options` (those that make the result).

    The folder belongs to the run, unless `record` is another file than run.json: that one is a guest.

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: another process works in the folder now.
    """
    prepare_place(path)
    with open(path / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is working in {str(path)!r}; wait for it or give another --out") from None
        file = path / record
        for left in path.glob(".*.tmp"):  # of a process that was killed while it wrote
            if left.is_file():
                left.unlink()
        if record == "run.json":
            _check_owner(path, overwrite)
        elif overwrite:
            file.unlink(missing_ok=True)
        yield RunFolder(path, file, _open_record(file, command, options))


@dataclass
class SharedFolder(RunFolder):
    """A folder in which several processes work on one run."""

    alone: bool = True
    lock: Any = None

    def settle(self) -> None:
        """Let the other processes in: what must be done alone is done."""
        fcntl.flock(self.lock, fcntl.LOCK_SH)


@contextlib.contextmanager
def share(path: Path, command: str, options: dict[str, Any], *, overwrite: bool = False) -> Iterator[SharedFolder]:
    """Work in the folder `path` beside other processes with the same `options`.

    Raises:
        UsageError: the folder holds something else, or a run with other options (what differs is named).
        RunError: `overwrite` while another process works there.
    """
    prepare_place(path)
    with open(path / ".lock", "w") as lock:
        folder = SharedFolder(path, path / "run.json")
        folder.lock = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if overwrite:
                raise RunError(f"another process is working in {str(path)!r}: it is not overwritten") from None
            folder.alone = False
            fcntl.flock(lock, fcntl.LOCK_SH)
        _check_owner(path, overwrite)
        folder.record = _open_record(path / "run.json", command, options)
        yield folder


def _check_owner(path: Path, overwrite: bool) -> None:
    """Refuse to take over a folder that no run made; empty one that a run made where `overwrite` says so."""
    mine = (path / "run.json").exists()
    foreign = [item.name for item in path.iterdir() if item.name != ".lock" and not item.name.endswith(".tmp")]
    if foreign and not mine:
        raise UsageError(
            f"out: {str(path)!r} is not empty and holds no run.json (but {foreign[0]}); give another --out"
        )
    if overwrite and mine:
        empty_folder(path)


def _open_record(file: Path, command: str, options: dict[str, Any]) -> dict[str, Any]:
    if file.exists():
        record = _read_record(file)
        difference = _difference(record, command, options)
        if difference:
            raise OtherRunError(f"out: {file} was made with {difference}; give another --out, or --overwrite")
        return record
    record = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "options": options,
        "command_line": command_line(),
        "versions": versions(),
    }
    write_json(file, record)
    return record


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = read_json(file)
        if not isinstance(record["options"], dict):
            raise UsageError(f"{file}: options are not an object")
        return record
    except (UsageError, KeyError) as error:
        raise UsageError(f"{file} is corrupt ({error}); --overwrite begins anew") from None


def _difference(record: dict[str, Any], command: str, options: dict[str, Any]) -> str:
    if record.get("command") != command:
        return f"the command {record.get('command')!r}"
    made = record["options"]
    now = json.loads(json.dumps(options))
    new = [key for key in now if key not in made and now[key] in (None, [], "", False)]  # options that came later
    keys = [key for key in sorted({*made, *now}) if made.get(key) != now.get(key) and key not in new]
    return ", ".join(
        "other data (samples were added, removed, changed or relabelled since)" if key == "fingerprint" else
        f"{key}={made.get(key)!r} (now {now.get(key)!r})" for key in keys
    )  # fmt: skip


def empty_folder(path: Path) -> None:
    """Remove what is in a run's folder, but its lock; run.json goes last, so that the folder stays known as ours."""
    for item in sorted(path.iterdir(), key=lambda item: item.name == "run.json"):
        if item.name == ".lock":
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
