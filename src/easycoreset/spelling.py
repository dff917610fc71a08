"""What a spelling of `--data` tells by itself, without opening anything."""

import os
from collections.abc import Sequence
from pathlib import Path

from easycoreset.own_modules import is_own

MANIFESTS = (".csv", ".tsv", ".parquet")


def name_data(data: str) -> str:
    """What a data set is called wherever it lies, so that runs and cells can be moved.

    >>> name_data("cifar10:/some/where"), name_data("photos/cats/"), name_data("digits"), name_data("hf:owner/birds")
    ('cifar10', 'cats', 'digits', 'hf:birds')
    """
    name, colon, rest = data.partition(":")
    if name == "hf":
        return f"hf:{Path(rest).name}"
    if is_own_data(data):
        return data
    return name if colon and "/" not in name else Path(data).name


def is_own_data(data: str) -> bool:
    """Whether `data` is a function of a user's own module."""
    return data.partition(":")[0] not in ("hf", *INNER) and not os.path.exists(data) and is_own(data)


def is_manifest(data: str) -> bool:
    """Whether `data` is a table that lists image files."""
    path = Path(data)
    return path.suffix.lower() in MANIFESTS and os.path.isfile(path)


def is_listed(data: str) -> bool:
    """Whether `data` is image files, in a folder or listed by a manifest."""
    return os.path.isdir(data) or is_manifest(data)


def takes_size(data: str) -> bool:
    """Whether the pictures of `data` may be of any size, so that `image_size` says to which they are brought."""
    return data.startswith("hf:") or is_listed(data)


INNER = {  # the folder that torchvision's data sets have in their root
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}


def data_paths(data: str) -> list[Path]:
    """Where a data set lies that is on this disk: its folder, or its file.

    >>> data_paths("cifar10:nowhere"), data_paths("digits"), data_paths("photos")
    ([PosixPath('nowhere/cifar-10-batches-py')], [], [PosixPath('photos')])
    """
    name, colon, place = data.partition(":")
    if colon and name in INNER:
        inner = Path(place) / INNER[name]
        return [inner if inner.exists() or not os.path.isdir(place) else Path(place)]
    if is_own_data(data):
        return []
    return [Path(place if name == "hf" else data)] if data != "digits" else []


def is_here(data: str) -> bool:
    """Whether a data set lies on this disk and is opened without asking anybody else: what a file that came from
    elsewhere names is opened only then.

    Of Hugging Face's that is a folder that `save_to_disk` wrote, or a Parquet file.
    """
    name, _, place = data.partition(":")
    if name == "hf":
        saved = any((Path(place) / file).is_file() for file in ("dataset_dict.json", "state.json"))
        return saved or (Path(place).suffix == ".parquet" and Path(place).is_file())
    return data == "digits" or any(os.path.exists(path) for path in data_paths(data))


def picture_files(data: str, sample_ids: Sequence[str]) -> list[Path]:
    """Where the pictures of a folder's or a manifest's samples lie."""
    root = Path(data).parent if is_manifest(data) else Path(data)
    return [root / name for name in sample_ids]


def split_place(path: Path) -> tuple[Path, str | None]:
    """A file or folder of weights, and the key of those that are meant where it holds several: FILE:KEY.

    >>> split_place(Path("model.pt"))
    (PosixPath('model.pt'), None)
    """
    parts = str(path).split(":")
    for count in range(1, len(parts) if not os.path.lexists(path) else 1):
        place = ":".join(parts[:count])
        key = ":".join(parts[count:])
        if place and key and os.path.exists(place):
            return Path(place), key
    return path, None
