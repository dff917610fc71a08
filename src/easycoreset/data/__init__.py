"""Data sets: images with stable indices, ids and labels, in batches. One kind a file, one line of `DATA` each."""

import re
from pathlib import Path

from easycoreset.data.source import Batch, Source, Split
from easycoreset.errors import UsageError, nearest
from easycoreset.members import load_attribute

__all__ = ["DATA", "Batch", "Source", "Split", "open_source"]

DATA = {
    "digits": "easycoreset.data.digits:load_digits",
    "cifar10": "easycoreset.data.cifar:load_cifar10",
    "cifar100": "easycoreset.data.cifar:load_cifar100",
    "fashion-mnist": "easycoreset.data.fashion:load_fashion_mnist",
}


def open_source(data: str, *, image_size: int = 64, num_workers: int = 2, download: bool = False) -> Source:
    """Open the data set that `data` spells: NAME, NAME:DIR, an image folder or an .npz file.

    Args:
        data: the spelling.
        image_size: side to which a folder's images are resized and cropped.
        num_workers: processes that decode a folder too large for memory.
        download: let torchvision fetch what is missing.

    Raises:
        UsageError: unknown name, or files that are missing, broken or of another kind.

    >>> open_source("digits").shape
    (1, 8, 8)
    """
    name, _, folder = data.partition(":")
    path = Path(data)
    if name in DATA:
        load = load_attribute("data", DATA[name])
        if name == "digits":
            if folder:
                raise UsageError(f"data: digits is bundled and takes no folder; got {folder!r}")
            return load()
        if not folder:
            raise UsageError(f"data: {name} needs its folder, as in {name}:DIR")
        return load(Path(folder), download=download)
    if path.suffix == ".npz":
        from easycoreset.data.arrays import load_npz

        return load_npz(path)
    if path.is_dir():
        from easycoreset.data.folder import load_folder

        return load_folder(path, image_size=image_size, num_workers=num_workers)
    if path.exists():
        raise UsageError(f"data: {data!r} is neither a folder nor an .npz file")
    if re.fullmatch(r"[\w-]+", name):
        raise UsageError(f"data: no folder and no data set {name!r}: {nearest(name, DATA)}")
    raise UsageError(f"data: {data!r}: no such file or folder")
