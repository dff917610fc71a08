"""Checks that inputs and results do not overlap: `out` neither contains an input nor lies in one."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from easycoreset.data_specs import data_paths, split_weights_path
from easycoreset.errors import UsageError, quote


def find_inputs(options: Any) -> Iterator[tuple[str, Path]]:
    """Yield (option, path) of every input on disk that the options name."""
    for item in dataclasses.fields(options):
        value = getattr(options, item.name)
        values = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
        for entry in values if item.name != "out" else ():
            if isinstance(entry, Path):
                yield item.name, split_weights_path(entry)[0]
            elif item.name == "data" and entry:
                yield from ((item.name, path) for path in data_paths(entry))
            elif isinstance(entry, str) and entry.startswith("file:"):
                yield item.name, Path(entry.removeprefix("file:").partition(":")[0])
            elif item.name in ("init", "classes") and isinstance(entry, str):
                yield item.name, split_weights_path(Path(entry))[0]


def require_disjoint(options: Any, host: str | None = None) -> None:
    """Refuse an `out` that is an input, contains an input, or lies in one.

    Args:
        options: options with a folder `out`.
        host: name of an option whose folder, or whose file's folder, may also be `out`.

    Raises:
        UsageError: they overlap; the message names the input.
    """
    out = options.out.resolve()
    for name, path in find_inputs(options):
        resolved = path.resolve()
        if not os.path.exists(resolved) or (name == host and out in (resolved, resolved.parent)):
            continue
        if out == resolved or out in resolved.parents:
            raise UsageError(f"out must hold no input; {name} {quote(str(path))} lies in {quote(str(options.out))}")
        if resolved in out.parents and os.path.isdir(resolved):
            raise UsageError(f"out must lie outside of {name} {quote(str(path))}; got {quote(str(options.out))}")
