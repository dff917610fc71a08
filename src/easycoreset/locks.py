"""Locks: files that one process holds, opened without a look at their contents and without following a link.

Where the system has no `flock` (Windows), nothing is locked, and one process may work in a folder at a time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from easycoreset.errors import UsageError

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass
class Lock:
    """An open lock: its file descriptor, whether opening it created the file, and whether it is held exclusively."""

    descriptor: int
    created: bool
    is_exclusive: bool

    def share(self) -> None:
        """Let other processes hold it too; wait while one holds it alone."""
        if fcntl is not None:
            fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def wait(self) -> None:
        """Hold it alone; wait until no other process holds it."""
        if fcntl is not None:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def try_alone(self) -> bool:
        """Hold it alone where no other process holds it; returns whether it is held."""
        try:
            if fcntl is not None:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def open_lock(file: Path, wait: bool = False) -> Lock:
    """Open a lock, without following a link and without changing what lies there, and take it where it is free.

    Args:
        file: the lock.
        wait: where it is not free, wait until it can be shared.

    Raises:
        UsageError: a link or something else has its name.
    """
    while True:
        made = False
        try:
            try:
                descriptor = os.open(file, FLAGS)
            except FileNotFoundError:
                descriptor = os.open(file, FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
                made = True
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"out: {file} is in the way: it cannot be used as a lock: {error.strerror}") from None
        lock = Lock(descriptor, made, is_exclusive=True)
        lock.is_exclusive = lock.try_alone()
        if wait and not lock.is_exclusive:
            lock.share()
        try:
            if os.path.samestat(os.fstat(descriptor), os.lstat(file)):
                return lock
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the process that held it has removed it meanwhile
