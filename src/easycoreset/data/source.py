"""Data sets: splits of samples with labels, ids and a fingerprint, and their batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easycoreset.devices import with_index
from easycoreset.errors import UsageError, quote

Ints = npt.NDArray[np.int64]
HELD_OUT = "is held out"  # part of the note about a data set without a test part, of which a fifth is held out
Transform = Callable[[Tensor, int], Tensor]  # (images [B,H,W,C], step) -> the same shape


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: `index [B] int64`, `x [B,C,H,W] float32 in [0,1]`, `y [B] int64`, all on one device."""

    index: Tensor
    x: Tensor
    y: Tensor


class Reading(NamedTuple):
    """How a data set is read.

    Attributes:
        image_size: side in pixels to which images of any size are resized and cropped; None: see the kind of data set.
        num_workers: worker processes that decode images too large for memory.
        skip_unreadable: leave out images that cannot be read.
        classes: number of classes, or a file of their names in order; None for the classes that occur.
        download: let the source download missing files.
    """

    image_size: int | None = None
    num_workers: int = 2
    skip_unreadable: bool = False
    classes: str | None = None
    download: bool = False


class Images(Protocol):
    """The images of one split, in order."""

    def stream(self, chunks: Sequence[Ints], device: torch.device) -> Iterator[Tensor]:
        """Yield the images of each chunk of indices, [B,H,W,C] uint8 or float32 in [0,1], on `device`."""
        ...


@dataclass(frozen=True)
class Split:
    """The samples of one split, `index` 0..N-1.

    Attributes:
        name: train or test.
        images: the images.
        labels: [N] int64.
        sample_ids: [N] stable ids.
        fingerprint: SHA-256 over (sample_id, label, content) in index order.
    """

    name: str
    images: Images
    labels: Ints
    sample_ids: Sequence[str]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self,
        order: Ints,
        batch_size: int,
        device: torch.device | str = "cpu",
        transform: Transform | None = None,
        skip: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Yield the samples `order` in batches of `batch_size`; the last batch may be smaller.

        Args:
            order: indices, in the order of the batches.
            batch_size: samples per batch.
            device: device of the batches.
            transform: augmentation, called with the images and the number of the batch.
            skip: number of batches to skip at the start.
            shard: (i, n): the i-th of n parts of each batch; batches of fewer than 2 n samples are not split.
        """
        device = with_index(torch.device(device))
        chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][skip:]
        chunks = [take_shard(chunk, shard) for chunk in chunks]
        rows = np.concatenate(chunks) if chunks else np.empty(0, np.int64)
        sizes = [
            len(chunk) for chunk in chunks
        ]  # all batches are copied to the device at once, because it would wait for each copy
        index, y = (torch.from_numpy(values).to(device).split(sizes) for values in (rows, self.labels[rows]))
        for number, images in enumerate(self.images.stream(chunks, device)):
            x = images if transform is None else transform(images, skip + number)
            x = x.float().div_(255) if x.dtype == torch.uint8 else x
            yield Batch(index[number], x.permute(0, 3, 1, 2), y[number])


def take_shard(batch: Any, shard: tuple[int, int]) -> Any:
    """The i-th of n parts of a batch, with `shard` (i, n); a batch of fewer than 2 n samples is not split.

    >>> take_shard([1, 2, 3, 4, 5], (1, 2)), take_shard([1, 2, 3], (1, 2))
    ([2, 4], [1, 2, 3])
    """
    return batch if len(batch) < 2 * shard[1] else batch[shard[0] :: shard[1]]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        name: name or path of the data set.
        splits: train and test.
        class_names: the name of each class.
        shape: (C, H, W) of an image.
        mean: mean of each channel in [0,1], for the model's normalisation.
        std: standard deviation of each channel.
        augmentation: default augmentation.
        notes: notes for the user.
        unreadable: one line per unreadable image that is left out, with the reason.
    """

    name: str
    splits: dict[str, Split]
    class_names: Sequence[str]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Literal["none", "flip", "crop-flip"] = "none"
    notes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def holds_out(self) -> bool:
        """Whether the test part is held out of the training part, because there is none."""
        return any(HELD_OUT in note for note in self.notes)

    def __post_init__(self) -> None:
        for split in self.splits.values():
            check_labels(split, self.class_names, self.name)


def check_labels(split: Split, class_names: Sequence[str], name: str) -> None:
    """Refuse labels that are out of range, and data of a single class."""
    labels = split.labels
    classes = len(class_names)
    if not len(labels):
        raise UsageError(f"data: {name}: split {quote(split.name)} is empty")
    if labels.min() < 0 or labels.max() >= classes:
        invalid = labels[(labels < 0) | (labels >= classes)]
        raise UsageError(
            f"data: {name}: labels must be in 0..{classes - 1}; got {invalid[0]} in split {quote(split.name)}"
        )
    if classes < 2 or (split.name == "train" and len(np.unique(labels)) < 2):
        raise UsageError(f"data: {name}: at least two classes are needed; got one")
