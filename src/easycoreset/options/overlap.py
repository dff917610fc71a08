"""Inputs and results do not overlap: the folder that a command fills holds no input, nor lies in one."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from easycoreset.errors import UsageError, quote
from easycoreset.spelling import data_paths, split_place


def find_inputs(options: Any) -> Iterator[tuple[str, Path]]:
    """Name and path of every input on the disk that the options name."""
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        several = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
        for one in several if item.name != "out" else ():
            if isinstance(one, Path):
                yield item.name, split_place(one)[0]
            elif item.name == "data" and one:
                yield from ((item.name, path) for path in data_paths(one))
            elif isinstance(one, str) and one.startswith("file:"):
                yield item.name, Path(one.removeprefix("file:").partition(":")[0])
            elif item.name in ("init", "classes") and isinstance(one, str):
                yield item.name, split_place(Path(one))[0]


def require_disjoint(options: Any, host: str | None = None) -> None:
    """Refuse an `out` that is or holds an input, or that lies in one.

    Args:
        options: with `out`, a folder.
        host: an option whose folder `out` may be, or the folder of the file that it names.

    Raises:
        UsageError: the input is named.
    """
    out = options.out.resolve()
    for name, path in find_inputs(options):
        place = path.resolve()
        if not os.path.exists(place) or (name == host and out in (place, place.parent)):
            continue
        if out == place or out in place.parents:
            raise UsageError(f"out must hold no input; {name} {quote(str(path))} lies in {quote(str(options.out))}")
        if place in out.parents and os.path.isdir(place):
            raise UsageError(f"out must lie outside of {name} {quote(str(path))}; got {quote(str(options.out))}")
