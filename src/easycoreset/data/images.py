"""Two ways to store images: one tensor (on the device if it fits), or files that are decoded as needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from easycoreset.console import printable_name
from easycoreset.data.source import Images, Ints, Split
from easycoreset.errors import RunError
from easycoreset.image_decoding import EncodedImage, decode_image, describe_read_error
from easycoreset.tables.fingerprint import fingerprint

CHUNK = 100  # images of which statistics are computed at once
MEMORY_LIMIT = 2**30  # bytes of decoded pixels up to which a data set is kept in memory


class MemoryImages:
    """Images in memory; a copy stays on the device.

    Args:
        whole: one tensor [N,H,W,C], uint8 or float32 in [0,1], in any order in memory.
        rows: the images among them, which are not copied; None: all.
    """

    def __init__(self, whole: Tensor, rows: Ints | None = None) -> None:
        self._whole = whole
        self._rows = None if rows is None else torch.from_numpy(rows)
        self._resident: dict[torch.device, Tensor | None] = {}  # None: it does not fit

    @property
    def pixels(self) -> Tensor:
        """The images [N,H,W,C]; a copy where they are rows among others."""
        return self._whole if self._rows is None else self._whole[self._rows]

    def take(self, rows: Ints) -> "MemoryImages":
        """The images `rows`, of the same memory."""
        return MemoryImages(self._whole, rows if self._rows is None else self._rows.numpy()[rows])

    def image(self, row: int) -> Tensor:
        """One image [H,W,C]."""
        return self._whole[row if self._rows is None else self._rows[row]]

    def on(self, device: torch.device) -> Tensor | None:
        """The pixels on `device`; None for the CPU, and where they would take over a quarter of its free memory."""
        if device.type == "cpu":
            return None
        if device not in self._resident:
            count = len(self._whole if self._rows is None else self._rows)
            size = self._whole[:1].nbytes * count
            fits = device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] // 4
            self._resident[device] = self.pixels.to(device) if fits else None
        return self._resident[device]

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk."""
        resident = self.on(device)
        pixels = self._whole if resident is None else resident
        rows = torch.from_numpy(np.concatenate(chunks)) if chunks else torch.empty(0, dtype=torch.int64)
        rows = rows if resident is not None or self._rows is None else self._rows[rows]
        for chunk in rows.to(pixels.device).split([len(chunk) for chunk in chunks]):
            yield _to_device(pixels[chunk].contiguous(), device)


@dataclass(frozen=True)
class ImageRows:
    """Some of the images of a split, in another order.

    Attributes:
        whole: the images.
        rows: which of them.
    """

    whole: Images
    rows: Ints

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk."""
        return self.whole.stream([self.rows[chunk] for chunk in chunks], device)


def take_images(images: Images, rows: Ints) -> Images:
    """The images `rows`; pixels in memory are not copied."""
    return images.take(rows) if isinstance(images, MemoryImages) else ImageRows(images, rows)


def _to_device(images: Tensor, device: torch.device) -> Tensor:
    """Copy the images to the device, asynchronously for a GPU."""
    pinned = images.pin_memory() if device.type == "cuda" and images.device.type == "cpu" else images
    return pinned.to(device, non_blocking=True)


class EncodedFiles(Protocol):
    """Encoded images: paths, or open files."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> EncodedImage: ...


class FileImages(Dataset):
    """Images in files, resized so that the shorter side is `size`, centre-cropped, always RGB."""

    def __init__(self, paths: EncodedFiles, size: int, num_workers: int = 0, white: int | None = None) -> None:
        self.paths = paths
        self.size = size
        self.num_workers = num_workers
        self.white = white

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor | str:
        """The image, or a message if it is unreadable: an exception in a worker would arrive as a traceback."""
        file = self.paths[row]
        try:
            return torch.from_numpy(decode_image(file, self.size, self.white))
        except Exception as error:  # PIL raises almost any exception on damaged files
            return f"{printable_name(file) if isinstance(file, Path) else f'row {row}'} ({describe_read_error(error)})"

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk, decoded by workers."""
        batches = [chunk.tolist() for chunk in chunks]
        prefetch_factor = 4 if self.num_workers else None
        loader = DataLoader(
            self,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=_collate,
            prefetch_factor=prefetch_factor,
            pin_memory=device.type == "cuda",
        )
        for images in loader:
            if isinstance(images, str):
                raise RunError(f"data: unreadable image: {images}")
            yield images.to(device, non_blocking=True)


def _collate(images: list[Tensor | str]) -> Tensor | str:
    unreadable = [image for image in images if isinstance(image, str)]
    return (
        ", ".join(unreadable) if unreadable else torch.stack([image for image in images if isinstance(image, Tensor)])
    )


def memory_split(
    name: str, pixels: np.ndarray | Tensor, labels: np.ndarray, sample_ids: Sequence[str], rows: Ints | None = None
) -> Split:
    """Make a split of images in memory, fingerprinted by content.

    Args:
        name: name of the split.
        pixels: images [N,H,W,C], uint8 or float32 in [0,1].
        labels: [n] labels of the split's samples.
        sample_ids: [n] ids of the split's samples.
        rows: [n] rows of these samples in `pixels`, which are not copied; None: all.
    """
    labels = np.asarray(labels, np.int64)
    whole = pixels if isinstance(pixels, Tensor) else to_tensor(pixels)
    array = whole.numpy()
    contents = (array[row].tobytes() for row in (range(len(array)) if rows is None else rows))
    return Split(name, MemoryImages(whole, rows), labels, sample_ids, fingerprint(sample_ids, labels, contents))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """A tensor of the same memory, or of a copy where that is read-only or in steps backwards."""
    return torch.from_numpy(pixels if pixels.flags.writeable and min(pixels.strides) >= 0 else pixels.copy())


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Convert an image to uint8 if all its values are bytes divided by 255, as from `ToTensor`; nothing is lost."""
    if not np.issubdtype(image.dtype, np.floating) or not ((image >= 0) & (image <= 1)).all():
        return image
    values = np.rint(image * 255).astype(np.uint8)
    back = values.astype(np.float32) / np.float32(255)
    return values if image.dtype == np.float32 and np.array_equal(back, image) else image


def channel_statistics(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0,1], from about 10,000 of the images [N,H,W,C]."""
    scale = 255 if pixels.dtype == np.uint8 else 1
    sample = pixels[:: max(len(pixels) // 10_000, 1)]
    chunks = [sample[start : start + CHUNK] for start in range(0, len(sample), CHUNK)]  # as float64 they are large
    count = sample[..., 0].size
    mean = np.sum([(chunk.astype(np.float64) / scale).sum((0, 1, 2)) for chunk in chunks], 0) / count
    squares = np.sum([((chunk.astype(np.float64) / scale - mean) ** 2).sum((0, 1, 2)) for chunk in chunks], 0)
    std = np.sqrt(squares / count)
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std, 0.01).round(4).tolist())
