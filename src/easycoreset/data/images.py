"""Two ways to hold pictures: small ones as one tensor (on the device if it fits), large folders decoded as needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from easycoreset.console import say_name
from easycoreset.data.source import Ints, Split
from easycoreset.decoding import Encoded, decode, say_broken
from easycoreset.errors import RunError
from easycoreset.tables.fingerprint import fingerprint

MEMORY_LIMIT = 2**30  # bytes of decoded pixels up to which a folder lives in memory


class MemoryImages:
    """Pictures as one tensor [N,H,W,C], uint8 or float32 in [0,1]; a copy on the device is kept where it fits."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self._resident: dict[torch.device, Tensor] = {torch.device("cpu"): pixels}

    def on(self, device: torch.device) -> Tensor:
        """The pixels on `device`, or on the CPU where they would take over a quarter of its free memory."""
        if device not in self._resident:
            fits = device.type != "cuda" or self.pixels.nbytes < torch.cuda.mem_get_info(device)[0] // 4
            self._resident[device] = self.pixels.to(device) if fits else self.pixels
        return self._resident[device]

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk."""
        pixels = self.on(device)
        rows = torch.from_numpy(np.concatenate(chunks)) if chunks else torch.empty(0, dtype=torch.int64)
        for part in rows.to(pixels.device).split([len(chunk) for chunk in chunks]):
            yield _send(pixels[part], device)


def _send(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device, of which a GPU takes them as its work allows."""
    pinned = images.pin_memory() if device.type == "cuda" and images.device.type == "cpu" else images
    return pinned.to(device, non_blocking=True)


class Files(Protocol):
    """Encoded pictures: paths, or open files of what is elsewhere."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Encoded: ...


class FileImages(Dataset):
    """Pictures in files, resized so that the shorter side is `size`, the centre cropped, always RGB."""

    def __init__(self, paths: Files, size: int, num_workers: int = 0, white: int | None = None) -> None:
        self.paths = paths
        self.size = size
        self.num_workers = num_workers
        self.white = white

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor | str:
        """The picture, or what is wrong with it: an error raised in a worker would come home as a traceback."""
        file = self.paths[place]
        try:
            return torch.from_numpy(decode(file, self.size, self.white))
        except Exception as error:  # PIL raises almost anything on broken files
            return f"{say_name(file) if isinstance(file, Path) else f'row {place}'} ({say_broken(error)})"

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk, decoded by workers."""
        batches = [chunk.tolist() for chunk in chunks]
        ahead = 4 if self.num_workers else None
        loader = DataLoader(
            self,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=_collate,
            prefetch_factor=ahead,
            pin_memory=device.type == "cuda",
        )
        for images in loader:
            if isinstance(images, str):
                raise RunError(f"data: broken image: {images}")
            yield images.to(device, non_blocking=True)


def _collate(images: list[Tensor | str]) -> Tensor | str:
    broken = [image for image in images if isinstance(image, str)]
    return ", ".join(broken) if broken else torch.stack([image for image in images if isinstance(image, Tensor)])


def memory_split(name: str, pixels: np.ndarray, labels: np.ndarray, sample_ids: Sequence[str]) -> Split:
    """A split of pictures in memory, [N,H,W,C] uint8 or float32 in [0,1], fingerprinted by content."""
    labels = np.asarray(labels, np.int64)
    pixels = np.ascontiguousarray(pixels)
    mark = fingerprint(sample_ids, labels, (row.tobytes() for row in pixels))
    return Split(name, MemoryImages(torch.from_numpy(pixels)), labels, sample_ids, mark)


def channel_statistics(pixels: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0,1], of some 10,000 of the pictures [N,H,W,C]."""
    sample = pixels[:: max(len(pixels) // 10_000, 1)].astype(np.float64) / (255 if pixels.dtype == np.uint8 else 1)
    mean = sample.mean((0, 1, 2))
    std = sample.std((0, 1, 2))
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std, 0.01).round(4).tolist())
