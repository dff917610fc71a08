"""Two ways to store images: one tensor (on the device if it fits), or files that are decoded as needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from easycoreset.console import printable_name
from easycoreset.data.source import Ints, Split
from easycoreset.errors import RunError
from easycoreset.image_decoding import EncodedImage, decode_image, describe_read_error
from easycoreset.tables.fingerprint import fingerprint

CHUNK = 100  # images of which statistics are computed at once
MEMORY_LIMIT = 2**30  # bytes of decoded pixels up to which a data set is kept in memory


class MemoryImages:
    """Images as one tensor [N,H,W,C], uint8 or float32 in [0,1], in any order in memory; a copy stays on the device."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._resident: dict[torch.device, Tensor] = {torch.device("cpu"): pixels}

    def on(self, device: torch.device) -> Tensor:
        """The pixels on `device`, or on the CPU if they would take over a quarter of its free memory."""
        if device not in self._resident:
            fits = device.type != "cuda" or self.pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 4
            self._resident[device] = self.pixels.to(device) if fits else self.pixels
        return self._resident[device]

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk."""
        pixels = self.on(device)
        rows = torch.from_numpy(np.concatenate(chunks)) if chunks else torch.empty(0, dtype=torch.int64)
        for chunk in rows.to(pixels.device).split([len(chunk) for chunk in chunks]):
            yield _to_device(pixels[chunk].contiguous(), device)


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


def memory_split(name: str, pixels: np.ndarray, labels: np.ndarray, sample_ids: Sequence[str]) -> Split:
    """Make a split of images in memory, [N,H,W,C] uint8 or float32 in [0,1], fingerprinted by content."""
    labels = np.asarray(labels, np.int64)
    if not pixels.flags.writeable or min(pixels.strides) < 0:  # of which a tensor can be made only by a copy
        pixels = pixels.copy()
    digest = fingerprint(sample_ids, labels, (image.tobytes() for image in pixels))
    return Split(name, MemoryImages(torch.from_numpy(pixels)), labels, sample_ids, digest)


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
