"""What this process may take of the machine, and has taken: memory, and the size of a file."""

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
    """Do `work`; returns its result, and the MB by which resident memory rose at its peak.

    Linux forgets and tells the peak; elsewhere, or where that is forbidden, it is None.

    >>> measure_peak(lambda: 3)[0]
    3
    """
    try:
        _give_back()
        (PROCESS / "clear_refs").write_text("5")
        before = _read("VmRSS")
    except OSError:
        return work(), None
    result = work()
    return result, round(max(_read("VmHWM") - before, 0) * 1024 / 1e6, 1)


def _give_back() -> None:
    """Hand memory that is free but still ours back to the system, so that using it again is seen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _read(field: str) -> int:
    """One line of the process's status, in KiB."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def peak_gigabytes() -> float:
    """The largest resident memory of this process so far, in GiB; 0 where the system does not report it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 if resource is not None else 0.0


def largest_file() -> int | None:
    """The bytes that a file of this process may have; None for any number."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit
