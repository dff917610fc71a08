"""Scores that come with the package: `published:NAME` in place of a file of scores."""

from pathlib import Path

from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.members import split_spec

PREFIX = "published:"
SPLIT = "train"
FOLDER = Path(__file__).parents[1] / "published"


def published_names() -> list[str]:
    """The data sets whose scores are published."""
    return sorted(file.stem for file in FOLDER.glob("*.parquet"))


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
