"""Data sets that stay open for the steps of one job: listing and decoding a large folder takes minutes each time."""

import contextlib
from collections.abc import Hashable, Iterator

from easycoreset.data.source import Source

_kept: dict[Hashable, Source] | None = None


def keep_open() -> None:
    """From now on this process opens a data set once: for workers, whose whole life is one job."""
    global _kept
    _kept = {} if _kept is None else _kept


@contextlib.contextmanager
def opened_once() -> Iterator[None]:
    """Within it a data set is opened once; what changes in its files meanwhile is not seen."""
    global _kept
    before = _kept
    keep_open()
    try:
        yield
    finally:
        _kept = before


def kept(key: Hashable) -> Source | None:
    """The data set that was opened under this key and kept."""
    return None if _kept is None else _kept.get(key)


def keep(key: Hashable, source: Source) -> Source:
    """The data set itself, which is kept where such are."""
    if _kept is not None:
        _kept[key] = source
    return source
