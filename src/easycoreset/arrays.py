"""Arrays in .npy and .npz files, read against the sizes they declare: no pickle, and no more than there is room for."""

import ast
import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from easycoreset.errors import UsageError, shorten

Array = npt.NDArray[Any]
CHUNK = 2**22  # bytes that are unpacked at once
MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


def list_npz(path: Path, what: str = "data") -> list[str]:
    """The names of the arrays in an .npz file; `what` names the option in messages.

    Raises:
        UsageError: no such file, or no zip.
    """
    with _opened(path, what) as whole:
        return _names(whole)


def read_npz(path: Path, names: Sequence[str], what: str = "data") -> dict[str, Array]:
    """Read those of the arrays `names` that an .npz file holds.

    Args:
        path: the file.
        names: of arrays; others are not looked at.
        what: the option that names the file, for messages.

    Raises:
        UsageError: no such file, no zip, an array that is cut off, of objects, or larger than the memory that is free.
    """
    with _opened(path, what) as whole:
        return {name: _read_member(whole, f"{name}.npy") for name in names if name in _names(whole)}


@contextlib.contextmanager
def _opened(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """Say which file cannot be read, whatever zipfile and NumPy raise."""
    try:
        with zipfile.ZipFile(path) as whole:
            yield whole
    except FileNotFoundError:
        raise UsageError(f"{what}: {path}: no such file") from None
    except Exception as error:  # a broken file raises almost anything
        said = shorten(" ".join(str(error).split()) or type(error).__name__)
        raise UsageError(f"{what}: {path}: not a readable .npz file: {said}") from None


def _names(whole: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in whole.namelist() if name.endswith(".npy")]


def open_npy(path: Path) -> Array:
    """Open an .npy file as a memory-mapped array.

    Raises:
        UsageError: no such file, no array, or one of objects.
    """
    try:
        with open(path, "rb") as opened:
            shape, by_columns, dtype = _read_header(opened, path.stat().st_size)
            start = opened.tell()
        if not np.prod(shape, dtype=np.float64):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", start, shape, "F" if by_columns else "C")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # a broken file raises almost anything
        raise UsageError(f"{path}: not a readable array: {shorten(str(error))}") from None


def free_memory() -> int:
    """Bytes that are free now, as the system estimates them, or as a container admits."""
    try:
        line = next(line for line in MEMORY.read_text().splitlines() if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    with contextlib.suppress(OSError, ValueError):  # no limit reads "max"
        most, taken = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(most - taken, 0))
    return free


def _read_member(whole: zipfile.ZipFile, name: str) -> Array:
    size = whole.getinfo(name).file_size
    with whole.open(name) as opened:
        shape, by_columns, dtype = _read_header(opened, size)
        bytes_ = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if bytes_ > free_memory() // 2:
            raise ValueError(f"{name} takes {bytes_ / 1e9:.1f} GB, more than half of what is free")
        content = bytearray(bytes_)
        for start in range(0, bytes_, CHUNK):
            part = opened.read(min(CHUNK, bytes_ - start))
            content[start : start + len(part)] = part
            if len(part) < min(CHUNK, bytes_ - start):
                raise ValueError(f"{name} is cut off")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def _read_header(opened: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array of which `size` bytes are there.

    Raises:
        ValueError: it is none, of objects or of several fields, or of another size.
    """
    version = np.lib.format.read_magic(opened)
    width = {1: 2, 2: 4, 3: 4}.get(version[0], 0)
    length = int.from_bytes(opened.read(width), "little")
    if not width or length > 10_000:
        raise ValueError("no array that NumPy wrote")
    facts = ast.literal_eval(opened.read(length).decode("latin1").strip())
    if not isinstance(facts, dict) or set(facts) != {"descr", "fortran_order", "shape"}:
        raise ValueError("no array that NumPy wrote")
    shape = facts["shape"]
    dtype = np.dtype(facts["descr"] if isinstance(facts["descr"], str) else "V")
    if dtype.kind not in "biufUS":
        raise ValueError(f"an array of {shorten(str(facts['descr']))}, not of numbers or text")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("an array without a shape")
    found = size - opened.tell()
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != found:
        raise ValueError(f"an array of shape {shorten(str(shape))}, of which {found} bytes are there")
    return shape, bool(facts["fortran_order"]), dtype
