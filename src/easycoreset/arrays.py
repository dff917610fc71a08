"""Read arrays from .npy and .npz files: sizes are checked against the header and free memory; no pickle."""

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
CHUNK = 2**22  # bytes that are decompressed at once
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def list_npz(path: Path, option: str = "data") -> list[str]:
    """The names of the arrays in an .npz file; `option` is the option that names the file, for messages.

    Raises:
        UsageError: the file is missing or is not a zip archive.
    """
    with _open_npz(path, option) as archive:
        return _array_names(archive)


def read_npz(path: Path, names: Sequence[str], option: str = "data") -> dict[str, Array]:
    """Read the arrays `names` from an .npz file; names that it lacks are left out.

    Args:
        path: the file.
        names: names of the arrays to read.
        option: the option that names the file, for messages.

    Raises:
        UsageError: the file is missing or not a zip archive, or an array is truncated, holds objects or takes
            more than half of the free memory.
    """
    with _open_npz(path, option) as archive:
        return {name: _read_member(archive, f"{name}.npy") for name in names if name in _array_names(archive)}


@contextlib.contextmanager
def _open_npz(path: Path, option: str) -> Iterator[zipfile.ZipFile]:
    """Open an .npz file; any error of zipfile or NumPy becomes a `UsageError` that names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise UsageError(f"{option}: {path}: no such file") from None
    except Exception as error:  # a damaged file raises almost anything
        reason = shorten(" ".join(str(error).split()) or type(error).__name__)
        raise UsageError(f"{option}: {path}: not a readable .npz file: {reason}") from None


def _array_names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def open_npy(path: Path) -> Array:
    """Open an .npy file as a memory-mapped array.

    Raises:
        UsageError: the file is missing, is not an array, or holds objects.
    """
    try:
        with open(path, "rb") as file:
            shape, fortran_order, dtype = _read_header(file, path.stat().st_size)
            offset = file.tell()
        if not np.prod(shape, dtype=np.float64):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape, "F" if fortran_order else "C")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # a damaged file raises almost anything
        raise UsageError(f"{path}: not a readable array: {shorten(str(error))}") from None


def free_memory() -> int:
    """Free memory in bytes: the system's estimate, or less if a container sets a limit."""
    try:
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    with contextlib.suppress(OSError, ValueError):  # without a limit the file holds "max"
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(limit - used, 0))
    return free


def _read_member(archive: zipfile.ZipFile, name: str) -> Array:
    size = archive.getinfo(name).file_size
    with archive.open(name) as file:
        shape, fortran_order, dtype = _read_header(file, size)
        n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if n_bytes > free_memory() // 2:
            raise ValueError(f"{name} takes {n_bytes / 1e9:.1f} GB, more than half of the free memory")
        content = bytearray(n_bytes)
        for start in range(0, n_bytes, CHUNK):
            chunk = file.read(min(CHUNK, n_bytes - start))
            content[start : start + len(chunk)] = chunk
            if len(chunk) < min(CHUNK, n_bytes - start):
                raise ValueError(f"{name} is truncated")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, the order and the dtype of an array from its header; the file has `size` bytes.

    Raises:
        ValueError: the file is not an array, holds objects or several fields, or has another size.
    """
    version = np.lib.format.read_magic(file)
    width = {1: 2, 2: 4, 3: 4}.get(version[0], 0)
    length = int.from_bytes(file.read(width), "little")
    if not width or length > 10_000:
        raise ValueError("not an array that NumPy wrote")
    header = ast.literal_eval(file.read(length).decode("latin1").strip())
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("not an array that NumPy wrote")
    shape = header["shape"]
    dtype = np.dtype(header["descr"] if isinstance(header["descr"], str) else "V")
    if dtype.kind not in "biufUS":
        raise ValueError(f"an array of {shorten(str(header['descr']))} must hold numbers or text")
    if not isinstance(shape, tuple) or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise ValueError("its shape is not a tuple of integers >= 0")
    available = size - file.tell()
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != available:
        raise ValueError(f"an array of shape {shorten(str(shape))} does not fit the {available} bytes in the file")
    return shape, bool(header["fortran_order"]), dtype
