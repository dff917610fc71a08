"""The kinds of data sets that `--data` may name: how each is spelled, where it lies and what it takes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from easycoreset.user_modules import is_user_spec

MANIFESTS = (".csv", ".tsv", ".parquet")


def is_saved_dataset(location: str) -> bool:
    """Whether a Hugging Face data set is on this disk: a folder written by `save_to_disk`, or a Parquet file."""
    path = Path(location)
    saved = any((path / file).is_file() for file in ("dataset_dict.json", "state.json"))
    return saved or (path.suffix == ".parquet" and path.is_file())


@dataclass(frozen=True, kw_only=True)
class DataKind:
    """One kind of data set.

    Attributes:
        load: `module:function`, called with the location and a `Reading`; returns a `Source`.
        location: what follows the kind's name and a colon: nothing for data that are bundled, a folder or a name.
        folder: the folder of its files below the location.
        of_any_size: whether its images may have any size, so that `image_size` is needed to resize them.
        own_classes: whether its classes are known, so that `classes` does not apply.
        image_files: whether it is image files, which may be unreadable.
        is_local: whether a location is on this disk, so that opening it needs no network.
    """

    load: str
    location: Literal["", "DIR", "NAME"] = "DIR"
    folder: str = ""
    of_any_size: bool = False
    own_classes: bool = False
    image_files: bool = False
    is_local: Callable[[str], bool] = os.path.exists


DATA = {
    "digits": DataKind(load="easycoreset.data.digits:load_digits", location="", own_classes=True),
    "cifar10": DataKind(load="easycoreset.data.cifar:load_cifar10", folder="cifar-10-batches-py", own_classes=True),
    "cifar100": DataKind(load="easycoreset.data.cifar:load_cifar100", folder="cifar-100-python", own_classes=True),
    "mnist": DataKind(load="easycoreset.data.mnist:load_mnist", folder="MNIST", own_classes=True),
    "fashion-mnist": DataKind(
        load="easycoreset.data.mnist:load_fashion_mnist", folder="FashionMNIST", own_classes=True
    ),
    "hf": DataKind(
        load="easycoreset.data.huggingface:load_hf", location="NAME", of_any_size=True, is_local=is_saved_dataset
    ),
}
FOLDER = DataKind(load="easycoreset.data.folder:load_folder", of_any_size=True, image_files=True)
MANIFEST = DataKind(load="easycoreset.data.manifest:load_manifest", of_any_size=True, image_files=True)
ARRAYS = DataKind(load="easycoreset.data.arrays:load_npz")
USER = DataKind(load="easycoreset.data.user_data:load_user_data", is_local=lambda location: False)


def split_data(data: str) -> tuple[DataKind | None, str]:
    """The kind of a data set, None if it is unknown, and its location.

    >>> split_data("cifar10:some/where")[1], split_data("nothing")
    ('some/where', (None, 'nothing'))
    """
    name, _, location = data.partition(":")
    if name in DATA:
        return DATA[name], location
    if os.path.isdir(data):
        return FOLDER, data
    if is_manifest(data):
        return MANIFEST, data
    if Path(data).suffix == ".npz":
        return ARRAYS, data
    return USER if is_user_spec(data) and not os.path.exists(data) else None, data


def data_name(data: str) -> str:
    """The name of a data set without its location, so that runs and cells can be moved.

    >>> data_name("cifar10:/some/where"), data_name("photos/cats/"), data_name("digits"), data_name("hf:owner/birds")
    ('cifar10', 'cats', 'digits', 'hf:birds')
    """
    kind, location = split_data(data)
    name, colon, _ = data.partition(":")
    if kind is USER:
        return data
    if kind is not None and kind.location == "NAME":
        return f"{name}:{Path(location).name}"
    return name if colon and "/" not in name else Path(data).name


def is_manifest(data: str) -> bool:
    """Whether `data` is a table that lists image files."""
    return Path(data).suffix.lower() in MANIFESTS and os.path.isfile(data)


def has_image_files(data: str) -> bool:
    """Whether `data` is image files, in a folder or listed by a manifest."""
    kind, _ = split_data(data)
    return kind is not None and kind.image_files


def needs_image_size(data: str) -> bool:
    """Whether the images of `data` may have any size, so that `image_size` is needed to resize them."""
    kind, _ = split_data(data)
    return kind is not None and kind.of_any_size


def data_paths(data: str) -> list[Path]:
    """The folder or file of a data set on this disk; empty for one without files.

    >>> data_paths("cifar10:nowhere"), data_paths("digits"), data_paths("photos")
    ([PosixPath('nowhere/cifar-10-batches-py')], [], [PosixPath('photos')])
    """
    kind, location = split_data(data)
    if kind is USER or not location:
        return []
    below = Path(location) / (kind.folder if kind is not None else "")
    return [below if os.path.exists(below) or not os.path.isdir(location) else Path(location)]


def is_local(data: str) -> bool:
    """Whether a data set is on this disk; a data set named in a file from elsewhere is opened only if it is."""
    kind, location = split_data(data)
    return kind is not None and (not kind.location or kind.is_local(location))


def image_file_paths(data: str, sample_ids: Sequence[str]) -> list[Path]:
    """The paths of the images of a folder's or a manifest's samples."""
    root = Path(data).parent if is_manifest(data) else Path(data)
    return [root / name for name in sample_ids]


def split_weights_path(path: Path) -> tuple[Path, str | None]:
    """Split FILE:KEY into a file or folder of weights and the key of one set of weights in it, or None.

    >>> split_weights_path(Path("model.pt"))
    (PosixPath('model.pt'), None)
    """
    parts = str(path).split(":")
    for count in range(1, len(parts) if not os.path.lexists(path) else 1):
        file = ":".join(parts[:count])
        key = ":".join(parts[count:])
        if file and key and os.path.exists(file):
            return Path(file), key
    return path, None
