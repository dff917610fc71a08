"""Parse the value of `--data`: the kind, the name and the paths of a data set, without opening it."""

import os
from collections.abc import Sequence
from pathlib import Path

from easycoreset.user_modules import is_user_spec

MANIFESTS = (".csv", ".tsv", ".parquet")


def data_name(data: str) -> str:
    """The name of a data set without its location, so that runs and cells can be moved.

    >>> data_name("cifar10:/some/where"), data_name("photos/cats/"), data_name("digits"), data_name("hf:owner/birds")
    ('cifar10', 'cats', 'digits', 'hf:birds')
    """
    name, colon, rest = data.partition(":")
    if name == "hf":
        return f"hf:{Path(rest).name}"
    if is_user_data(data):
        return data
    return name if colon and "/" not in name else Path(data).name


def is_user_data(data: str) -> bool:
    """Whether `data` is a function of a user's own module."""
    return (
        data.partition(":")[0] not in ("hf", *TORCHVISION_FOLDERS) and not os.path.exists(data) and is_user_spec(data)
    )


def is_manifest(data: str) -> bool:
    """Whether `data` is a table that lists image files."""
    path = Path(data)
    return path.suffix.lower() in MANIFESTS and os.path.isfile(path)


def has_image_files(data: str) -> bool:
    """Whether `data` is image files, in a folder or listed by a manifest."""
    return os.path.isdir(data) or is_manifest(data)


def needs_image_size(data: str) -> bool:
    """Whether the images of `data` may have any size, so that `image_size` is needed to resize them."""
    return data.startswith("hf:") or has_image_files(data)


TORCHVISION_FOLDERS = {  # the folder of a torchvision data set below its root
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}


def data_paths(data: str) -> list[Path]:
    """The folder or file of a data set on this disk; empty for one without files.

    >>> data_paths("cifar10:nowhere"), data_paths("digits"), data_paths("photos")
    ([PosixPath('nowhere/cifar-10-batches-py')], [], [PosixPath('photos')])
    """
    name, colon, location = data.partition(":")
    if colon and name in TORCHVISION_FOLDERS:
        subfolder = Path(location) / TORCHVISION_FOLDERS[name]
        return [subfolder if subfolder.exists() or not os.path.isdir(location) else Path(location)]
    if is_user_data(data):
        return []
    return [Path(location if name == "hf" else data)] if data != "digits" else []


def is_local(data: str) -> bool:
    """Whether a data set is on this disk, so that opening it needs no network: a data set named in a received file is
    opened only then.

    A local Hugging Face data set is a folder written by `save_to_disk`, or a Parquet file.
    """
    name, _, location = data.partition(":")
    if name == "hf":
        saved = any((Path(location) / file).is_file() for file in ("dataset_dict.json", "state.json"))
        return saved or (Path(location).suffix == ".parquet" and Path(location).is_file())
    return data == "digits" or any(os.path.exists(path) for path in data_paths(data))


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
