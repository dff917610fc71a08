"""MNIST and Fashion-MNIST (Zalando SE, MIT licence) in their common published layout."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from easycoreset.data.images import memory_split
from easycoreset.data.source import Reading, Source, Split
from easycoreset.errors import UsageError, quote

MAX_BYTES = 2**30  # of the arrays in a file
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def load_mnist(location: str, reading: Reading) -> Source:
    """70,000 grey 28x28 images of handwritten digits; `location` holds MNIST/raw/ or its files, gzipped or not."""
    splits = _splits("MNIST", Path(location), reading.download)
    return Source(f"mnist:{location}", splits, [str(k) for k in range(10)], (1, 28, 28), (0.1307,), (0.3081,))


def load_fashion_mnist(location: str, reading: Reading) -> Source:
    """70,000 grey 28x28 images of clothes; `location` holds FashionMNIST/raw/ or the files, gzipped or not."""
    splits = _splits("FashionMNIST", Path(location), reading.download)
    return Source(f"fashion-mnist:{location}", splits, FASHION, (1, 28, 28), (0.286,), (0.353,), "crop-flip")


def _splits(kind: str, folder: Path, download: bool) -> dict[str, Split]:
    if download:
        import torchvision

        try:
            getattr(torchvision.datasets, kind)(folder, download=True)
        except (OSError, RuntimeError) as error:
            raise UsageError(f"download: {kind} could not be fetched into {folder}: {error}") from None
    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        root = _find_files(folder, kind)
        pixels = read_idx(root / f"{prefix}-images-idx3-ubyte", 3)
        labels = read_idx(root / f"{prefix}-labels-idx1-ubyte", 1)
        if len(pixels) != len(labels):
            raise UsageError(f"data: {folder}: {len(pixels)} images but {len(labels)} labels in split {quote(split)}")
        ids = [f"{split}/{row:05d}" for row in range(len(labels))]
        splits[split] = memory_split(split, pixels[..., None], labels, ids)
    return splits


def _find_files(folder: Path, kind: str) -> Path:
    """The folder of the four files: a subfolder as torchvision makes it, or `folder` itself."""
    candidates = (folder / kind / "raw", folder / "raw", folder)
    return next((root for root in candidates if any(root.glob("train-images-idx3-ubyte*"))), candidates[0])


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped (`.gz`) or not.

    Raises:
        UsageError: the file is missing, truncated or of another kind.
    """
    zipped = path.with_name(path.name + ".gz")
    if not path.is_file() and not zipped.is_file():
        raise UsageError(f"data: {zipped}: no such file (--download lets torchvision fetch it)")
    try:
        with open(path, "rb") if path.is_file() else gzip.open(zipped) as opened:
            header = opened.read(4 + 4 * dimensions)
            shape = [int.from_bytes(header[4 * k : 4 * k + 4]) for k in range(1, dimensions + 1)]
            size = math.prod(shape)
            valid = (
                header[:4] == bytes([0, 0, 8, dimensions]) and len(header) == 4 + 4 * dimensions and size <= MAX_BYTES
            )
            content = opened.read(size + 1) if valid else b""  # no more than the header declares
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"data: {zipped}: not readable: {error}") from None
    if not valid or len(content) != size:
        raise UsageError(f"data: {path}: truncated, or not an IDX file of bytes in {dimensions} dimensions")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()
