"""Data sets: batches of images with stable indices, ids and labels. One file and one line of `DATA` per kind."""

import os
import re
from pathlib import Path

from easycoreset.data.cache import add_to_cache, cached_sources, enable_cache, get_cached
from easycoreset.data.source import Batch, Source, Split
from easycoreset.data_specs import MANIFESTS, data_name, has_image_files, is_manifest, needs_image_size
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.members import load_attribute
from easycoreset.user_modules import is_user_spec

__all__ = [
    "DATA",
    "Batch",
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

DATA = {
    "digits": "easycoreset.data.digits:load_digits",
    "cifar10": "easycoreset.data.cifar:load_cifar10",
    "cifar100": "easycoreset.data.cifar:load_cifar100",
    "mnist": "easycoreset.data.mnist:load_mnist",
    "fashion-mnist": "easycoreset.data.mnist:load_fashion_mnist",
    "hf": "easycoreset.data.huggingface:load_hf",
}


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
) -> Source:
    """Open the data set `data`: NAME, NAME:DIR, hf:NAME, an image folder, a manifest or an .npz file.

    Args:
        data: name or path of the data set.
        image_size: side in pixels to which images of a folder, a manifest or hf:NAME are resized and cropped; None
            means 64, and for hf:NAME resizes only if the images have several sizes.
        num_workers: worker processes that decode a folder too large for memory.
        download: let torchvision download missing files.
        skip_unreadable: leave out images of a folder or a manifest that cannot be read; `Source.unreadable` names them.
        classes: number of classes, or a file of their names in order; None for the classes that occur.

    Raises:
        UsageError: unknown name, or files that are missing, unreadable or of another kind.

    >>> open_source("digits").shape
    (1, 8, 8)
    """
    if not data:
        raise UsageError("data must be named; got ''")
    if image_size is not None and not needs_image_size(data):
        raise UsageError(
            f"image_size is for image folders, manifests and hf:NAME; got {image_size} for data {quote(data)}"
        )
    if skip_unreadable and not has_image_files(data):
        raise UsageError(f"skip_unreadable is for image folders and manifests; got data {quote(data)}")
    if classes is not None and data.partition(":")[0] in DATA and not data.startswith("hf:"):
        raise UsageError(f"classes must be left out for data {quote(data)}, which has its own; got {quote(classes)}")
    key = (data, image_size, num_workers, skip_unreadable, classes)
    cached = get_cached(key)
    return add_to_cache(key, _open(*key, download)) if cached is None else cached


def _open(
    data: str, image_size: int | None, num_workers: int, skip_unreadable: bool, classes: str | None, download: bool
) -> Source:
    """Open a data set; its spelling decides which loader is used."""
    path = Path(data)
    if data.partition(":")[0] in DATA:
        return _open_named(data, image_size, num_workers, classes, download)
    if has_image_files(data):
        from easycoreset.data.folder import load_folder
        from easycoreset.data.image_files import ReadOptions
        from easycoreset.data.manifest import load_manifest

        reading = ReadOptions(
            image_size=image_size or 64, num_workers=num_workers, skip_unreadable=skip_unreadable, classes=classes
        )
        return load_folder(path, reading) if path.is_dir() else load_manifest(path, reading)
    if path.suffix == ".npz":
        from easycoreset.data.arrays import load_npz

        return load_npz(path, classes)
    if is_user_spec(data):
        from easycoreset.data.user_data import load_user_data

        return load_user_data(data, classes)
    if os.path.exists(path):
        raise UsageError(
            f"data: {quote(data)} is neither a folder nor an .npz file nor a manifest ({', '.join(MANIFESTS)})"
        )
    name = data.partition(":")[0]
    if re.fullmatch(r"[\w-]+", name):
        raise UsageError(f"data: no folder and no data set {quote(name)}: {suggest_name(name, DATA)}")
    raise UsageError(f"data: {quote(data)}: no such file or folder")


def _open_named(data: str, image_size: int | None, num_workers: int, classes: str | None, download: bool) -> Source:
    """Open a data set listed in `DATA`."""
    name, _, folder = data.partition(":")
    load = load_attribute("data", DATA[name])
    if name == "digits":
        if folder:
            raise UsageError(f"data: digits is bundled and takes no folder; got {quote(folder)}")
        return load()
    if not folder:
        raise UsageError(
            f"data: {name} needs its {'name' if name == 'hf' else 'folder'}, as in {name}:"
            f"{'NAME' if name == 'hf' else 'DIR'}"
        )
    if name == "hf":
        return load(folder, image_size=image_size, num_workers=num_workers, classes=classes)
    return load(Path(folder), download=download)
