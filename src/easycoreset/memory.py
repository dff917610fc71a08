"""The memory that this process uses, and the largest file that it may write."""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

try:
    import resource
except ImportError:  # not a Unix
    resource = None

T = TypeVar("T")
PROCESS = Path("/proc/self")


def measure_peak(work: Callable[[], T]) -> tuple[T, float | None]:
    """Call `work`; returns its result and the peak rise of resident memory in MB.

    The peak is None where Linux's /proc cannot reset and report it.

    >>> measure_peak(lambda: 3)[0]
    3
    """
    try:
        _release_free_memory()
        (PROCESS / "clear_refs").write_text("5")
        before = _read_status("VmRSS")
    except OSError:
        return work(), None
    result = work()
    return result, round(max(_read_status("VmHWM") - before, 0) * 1024 / 1e6, 1)


def _release_free_memory() -> None:
    """Return freed memory to the system, so that its next use counts in the peak."""
    gc.collect(1)  # a full collection takes a quarter of a second once torch is loaded
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _read_status(field: str) -> int:
    """One field of the process's status, in KiB."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def peak_memory_gib() -> float:
    """The largest resident memory of this process so far, in GiB; 0 where the system does not report it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 if resource is not None else 0.0


def file_size_limit() -> int | None:
    """The limit on the size of a file that this process writes, in bytes; None without a limit."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit
