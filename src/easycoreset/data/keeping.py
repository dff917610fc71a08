"""Data sets that stay open for the steps of one job: listing and decoding a large folder takes minutes each time."""

import contextlib
from collections.abc import Hashable, Iterator

from easycoreset.data.source import Source

_kept: dict[Hashable, Source] | None = None
_told: set[int] = set()  # which of them a user was told of


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
        _told.clear()


def kept(key: Hashable) -> Source | None:
    """The data set that was opened under this key and kept."""
    return None if _kept is None else _kept.get(key)


def keep(key: Hashable, source: Source) -> Source:
    """The data set itself, which is kept where such are."""
    if _kept is not None:
        _kept[key] = source
    return source


def is_news(source: Source) -> bool:
    """Whether a user was not told of it yet."""
    if _kept is None or not any(source is own for own in _kept.values()):
        return True
    told = id(source) in _told
    _told.add(id(source))
    return not told
