"""Cache of open data sets for the steps of one job: opening a large folder takes minutes each time."""

import contextlib
from collections.abc import Hashable, Iterator

from easycoreset.data.source import Source

_cache: dict[Hashable, Source] | None = None  # None: off
_reported: set[tuple[str, str]] = set()  # data sets and their notes that this job has logged


def enable_cache() -> None:
    """Switch the cache on for the rest of this process: for workers, which run one job."""
    global _cache
    _cache = {} if _cache is None else _cache


@contextlib.contextmanager
def cached_sources() -> Iterator[None]:
    """Context in which each data set is opened once; later changes of its files are not seen."""
    global _cache
    before = _cache
    enable_cache()
    try:
        yield
    finally:
        _cache = before
        if before is None:  # not within another job
            _reported.clear()


def get_cached(key: Hashable) -> Source | None:
    """The cached data set of this key, or None."""
    return None if _cache is None else _cache.get(key)


def add_to_cache(key: Hashable, source: Source) -> Source:
    """Store the data set if the cache is on, and return it."""
    if _cache is not None:
        _cache[key] = source
    return source


def new_notes(source: Source) -> list[str]:
    """The notes of a data set that the job has not logged yet, in whatever size its images are; all without a cache."""
    notes = [note for note in source.notes if _cache is None or (source.name, note) not in _reported]
    _reported.update((source.name, note) for note in notes if _cache is not None)
    return notes
