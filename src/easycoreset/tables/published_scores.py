"""Scores that come with the package: `published:NAME` in place of a file of scores."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.members import split_spec

PREFIX = "published:"
SPLIT = "train"
FOLDER = Path(__file__).parents[1] / "published"


def published_names() -> list[str]:
    """The data sets whose scores are published."""
    return sorted(file.stem for file in FOLDER.glob("*.parquet"))


def describe_published() -> list[dict[str, str]]:
    """What is published, and how it was made."""
    records: list[dict[str, str]] = []
    for name in published_names():
        schema = pq.read_schema(FOLDER / f"{name}.parquet")
        made = json.loads(schema.metadata[b"easycoreset"])
        seeds = len(made["published"]["seeds"])
        columns = ", ".join(column for column in schema.names if pa.types.is_floating(schema.field(column).type))
        text = f"{columns}; means over {seeds} seeds of {made['model']}, {made['epochs']} epochs"
        records.append({"name": f"{PREFIX}{name}", "is": text})
    return records


def is_published(path: str | Path) -> bool:
    """Whether a path spells published scores."""
    return str(path).startswith(PREFIX)


def published_file(spec: str) -> Path:
    """The file of published scores.

    Args:
        spec: `published:NAME`, also with `:split=train`.

    Raises:
        UsageError: there are none of this name, or of this split.

    >>> published_file("published:cifar10").name
    'cifar10.parquet'
    """
    name, options = split_spec(spec.removeprefix(PREFIX))
    split = options.pop("split", SPLIT)
    require(split == SPLIT, "scores", f"published ones of the split {SPLIT}, the only one that was scored", spec)
    file = FOLDER / f"{name}.parquet"
    if options or name not in published_names():
        known = suggest_name(name, published_names())
        raise UsageError(f"scores: none are published as {quote(spec.removeprefix(PREFIX))}: {known}")
    return file
