"""Locks: files that one process holds, opened without a look at what they hold and without following a link."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from easycoreset.errors import UsageError


@dataclass
class Lock:
    """A lock that is open: its file, whether it was made for this, and whether no other process holds it."""

    descriptor: int
    made: bool
    alone: bool


def open_lock(file: Path, wait: bool = False) -> Lock:
    """Open a lock, without following a link and without changing what lies there, and take it where it is free.

    Args:
        file: the lock.
        wait: where it is not, wait until it can be shared.

    Raises:
        UsageError: a link or something else has its name.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        made = False
        try:
            try:
                descriptor = os.open(file, flags)
            except FileNotFoundError:
                descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666)
                made = True
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"out: {file} is in the way, and no lock: {error.strerror}") from None
        alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            alone = False
            if wait:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            if os.path.samestat(os.fstat(descriptor), os.lstat(file)):
                return Lock(descriptor, made, alone)
        except FileNotFoundError:
            pass
        os.close(descriptor)  # whoever had it has removed it meanwhile
