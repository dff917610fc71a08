"""Data sets: batches of images with stable indices, ids and labels. One file per kind, and one entry of `DATA`."""

import os
import re
from pathlib import Path

from easycoreset.data.cache import add_to_cache, cached_sources, enable_cache, get_cached
from easycoreset.data.decided import decided_source
from easycoreset.data.source import Batch, Reading, Source, Split
from easycoreset.data_specs import (
    DATA,
    MANIFESTS,
    DataKind,
    data_name,
    has_image_files,
    is_manifest,
    needs_image_size,
    split_data,
)
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.members import load_attribute
from easycoreset.user_modules import is_user_spec

__all__ = [
    "DATA",
    "Batch",
    "DataKind",
    "Reading",
    "Source",
    "Split",
    "cached_sources",
    "data_name",
    "enable_cache",
    "has_image_files",
    "is_manifest",
    "make_path_absolute",
    "needs_image_size",
    "open_source",
]


def make_path_absolute(data: str) -> str:
    """Make the path in a data set's spelling absolute; symbolic links stay as they are."""
    name, colon, path = data.partition(":")
    if name in DATA:
        return f"{name}:{os.path.abspath(path)}" if colon and os.path.exists(path) else data
    return os.path.abspath(data) if os.path.exists(data) else data


def open_source(
    data: str,
    *,
    image_size: int | None = None,
    num_workers: int = 2,
    download: bool = False,
    skip_unreadable: bool = False,
    classes: str | None = None,
    decisions: Path | None = None,
) -> Source:
    """Open the data set `data`: NAME, NAME:DIR, hf:NAME, an image folder, a manifest or an .npz file.

    Args:
        data: name or path of the data set.
        image_size: side in pixels to which images of a folder, a manifest or hf:NAME are resized and cropped; None
            means 64, and for hf:NAME resizes only if the images have several sizes.
        num_workers: number of worker processes that decode the images if they are too large for memory.
        download: let torchvision download missing files.
        skip_unreadable: leave out images of a folder or a manifest that cannot be read; `Source.unreadable` names them.
        classes: number of classes, or a file of their names in order; None for the classes that occur.
        decisions: a file of decisions saved on an audit's page: which pictures are left out or get another label.

    Returns:
        The data set with its training and test split.

    Raises:
        UsageError: unknown name, an option that does not apply to this kind of data set, or files that are missing,
            unreadable or of another kind.

    >>> open_source("digits").shape
    (1, 8, 8)
    """
    kind, location = _find_kind(data)
    if image_size is not None and not kind.of_any_size and not is_user_spec(data):
        raise UsageError(
            f"image_size is for image folders, manifests and hf:NAME; got {image_size} for data {quote(data)}"
        )
    if skip_unreadable and not kind.image_files:
        raise UsageError(f"skip_unreadable is for image folders and manifests; got data {quote(data)}")
    if classes is not None and kind.own_classes:
        raise UsageError(
            f"classes must be left out for data {quote(data)}, whose classes are fixed; got {quote(classes)}"
        )
    reading = Reading(image_size, num_workers, skip_unreadable, classes, download)
    key = (data, *reading[:4])
    source = get_cached(key) or add_to_cache(key, load_attribute("data", kind.load)(location, reading))
    if decisions is None:
        return source
    key = (*key, decisions)
    return get_cached(key) or add_to_cache(key, decided_source(data, source, decisions))


def _find_kind(data: str) -> tuple[DataKind, str]:
    """The kind and the location of a data set that can be opened.

    Raises:
        UsageError: the kind is unknown, or a location is missing or given where there is none.
    """
    if not data:
        raise UsageError("data must be named; got ''")
    kind, location = split_data(data)
    name = data.partition(":")[0]
    if kind is not None and name in DATA and bool(location) != bool(kind.location):
        what = {"DIR": "folder", "NAME": "name"}.get(kind.location)
        if what is None:
            raise UsageError(f"data: {name} is bundled and takes no folder; got {quote(location)}")
        raise UsageError(f"data: {name} needs its {what}, as in {name}:{kind.location}")
    if kind is not None:
        return kind, location
    if os.path.exists(data):
        raise UsageError(
            f"data: {quote(data)} is neither a folder nor an .npz file nor a manifest ({', '.join(MANIFESTS)})"
        )
    if re.fullmatch(r"[\w-]+", name):
        raise UsageError(f"data: no folder and no data set {quote(name)}: {suggest_name(name, DATA)}")
    raise UsageError(f"data: {quote(data)}: no such file or folder")
