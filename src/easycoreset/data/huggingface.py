"""Hugging Face data sets: from the hub by name, a folder written by `save_to_disk`, or Parquet files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from easycoreset.data import images
from easycoreset.data.classes import number_classes
from easycoreset.data.image_files import IMAGENET_MEAN, IMAGENET_STD, map_images, white_note
from easycoreset.data.images import FileImages, MemoryImages, channel_statistics
from easycoreset.data.source import HELD_OUT, Images, Ints, Reading, Source, Split
from easycoreset.data.split_names import choose_splits
from easycoreset.errors import UsageError, quote
from easycoreset.image_decoding import ORIENTATION, decode_image, find_white_value, open_image
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.tables.holdout import hold_out
from easycoreset.white_values import is_16_bit

LABELS = ("label", "labels", "fine_label", "y")
IDS = ("sample_id", "id")
GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
DEFAULT_SIZE = 64  # pixels, for images of several sizes if image_size is left out
T = TypeVar("T")
ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def load_hf(name: str, reading: Reading) -> Source:
    """A data set of Hugging Face's hub or on this disk; images of several sizes are resized and cropped.

    Raises:
        UsageError: the extra, the data set or its image or label column is missing, or images are unreadable.
    """
    return open_hf(f"hf:{name}", _load(name), reading)


def is_hf_dataset(value: Any) -> bool:
    """Whether an object is a data set of `datasets`, or a dictionary of several."""
    parts = list(value.values()) if isinstance(value, dict) else [value]
    return bool(parts) and all(type(part).__module__.startswith("datasets.") for part in parts)


def open_hf(name: str, dataset: Any, reading: Reading) -> Source:
    """Open a data set of `datasets`, or a dictionary of its splits, under a name.

    Raises:
        UsageError: the image or label column or the training split is missing, or images are unreadable.
    """
    dataset = dataset if isinstance(dataset, dict) else {"train": dataset}
    train, tests = choose_splits(dataset)
    if not train:
        raise UsageError(f"data: {name}: holds no split 'train' (it holds {', '.join(dataset)})")
    features = dataset[train[0]].features
    image, label = find_columns(name, features)
    all_labels = {split: _labels(data, label) for split, data in dataset.items() if split in (train[0], *tests)}
    labelled = [split for split in tests if not {None, -1} & set(all_labels[split])]
    chosen = {"train": train[0], **({"test": labelled[0]} if labelled else {})}
    named = getattr(features[label], "names", None) or ()
    part_labels = {part: all_labels[split] for part, split in chosen.items()}
    names, labels, notes = number_classes(part_labels, name, reading.classes, known_names=named)
    parts = {part: (dataset[split], np.arange(len(dataset[split]), dtype=np.int64)) for part, split in chosen.items()}
    if not labelled:
        part_rows = dict(zip(("train", "test"), hold_out(labels["train"]), strict=True))
        parts = {part: (dataset[train[0]].select(rows), rows) for part, rows in part_rows.items()}
        labels = {part: labels["train"][rows] for part, rows in part_rows.items()}
        notes.append(f"no labelled test split: a seeded, stratified fifth ({len(part_rows['test'])} images) {HELD_OUT}")
    elif labelled[0] != "test":
        notes.append(f"split {quote(labelled[0])} is the test split")
    files = {part: EncodedImages(data, image, rows) for part, (data, rows) in parts.items()}
    images_of, shape = _decode(files, reading.image_size, reading.num_workers, notes)
    splits: dict[str, Split] = {}
    for part, (data, rows) in parts.items():
        ids = _ids(data, rows)
        digest = fingerprint(ids, labels[part], (files[part][row].getvalue() for row in range(len(rows))))
        splits[part] = Split(part, images_of[part], labels[part], ids, digest)
    train_images = images_of["train"]
    mean = IMAGENET_MEAN
    std = IMAGENET_STD
    if isinstance(train_images, MemoryImages):
        mean, std = channel_statistics(train_images.pixels.numpy())
    return Source(name, splits, names, shape, mean, std, notes=notes)


class EncodedImages:
    """The encoded images of a column, read on access; `rows` are their row numbers in the whole split."""

    def __init__(self, data: Any, column: str, rows: Ints) -> None:
        from datasets import Image as ImageFeature

        self.rows = rows
        self.column = column
        self.data = data.select_columns([column]).with_format(None)
        if isinstance(data.features[column], ImageFeature):
            self.data = self.data.cast_column(column, ImageFeature(decode=False))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> io.BytesIO:
        value = self.data[row][self.column]
        if value is None:
            raise ValueError("no image")
        return io.BytesIO(value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes())


def find_columns(name: str, features: Any) -> tuple[str, str]:
    """Find the image column and the label column.

    Raises:
        UsageError: no column fits, or several do.
    """
    from datasets import ClassLabel

    image = find_image_column(name, features)
    classes = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    named = [column for column in LABELS if column in (classes or features)]
    label = named[0] if named else classes[0] if len(classes) == 1 else None
    if label is None:
        raise UsageError(
            f"data: {name}: must have a column of labels (a ClassLabel, or one named "
            f"{', '.join(LABELS)}); got {', '.join(classes or features)}"
        )
    return image, label


def find_image_column(name: str, features: Any) -> str:
    """Find the image column.

    Raises:
        UsageError: no column fits, or several do.
    """
    from datasets import Image as ImageFeature

    encoded = {"bytes", "path"}  # fields of an image in a Parquet file without the types of `datasets`
    images = [c for c, kind in features.items() if isinstance(kind, ImageFeature) or set(_fields(kind)) == encoded]
    if len(images) != 1:
        raise UsageError(
            f"data: {name}: must have one column of images; got {', '.join(images) or 'none'} among "
            f"{', '.join(features)}"
        )
    return images[0]


def _fields(kind: Any) -> dict[str, Any]:
    return kind if isinstance(kind, dict) else {}


def _load(name: str) -> dict[str, Any]:
    try:
        from datasets import Dataset, load_dataset, load_from_disk
    except ImportError:
        raise UsageError(f"data: hf:{name} needs datasets: pip install easycoreset[hf]") from None
    path = Path(name)
    try:
        if path.is_dir() and any((path / file).exists() for file in ("dataset_dict.json", "state.json")):
            dataset: Any = load_from_disk(name)
        else:
            dataset = Dataset.from_parquet(name) if path.is_file() else load_dataset(name)  # the former stays offline
    except Exception as error:  # the hub, the network and damaged files raise almost any exception
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"data: hf:{name}: cannot be loaded: {message}") from None
    return {"train": dataset} if isinstance(dataset, Dataset) else dict(dataset)


def _labels(data: Any, label: str) -> list[Any]:
    return list(data.with_format(None)[label][:])


def _ids(data: Any, rows: Ints) -> list[str]:
    """The ids in a column of `IDS` if they are unique, else the row numbers."""
    for column in IDS:
        if str(getattr(data.features.get(column), "dtype", "")) == "string":
            ids = list(data[column][:])
            if None not in ids and len(set(ids)) == len(ids):
                return ids
    return [str(row) for row in rows.tolist()]


def _decode(
    files: dict[str, EncodedImages], image_size: int | None, num_workers: int, notes: list[str]
) -> tuple[dict[str, Images], tuple[int, int, int]]:
    """Decode all images if they fit into memory, else leave it to workers; returns also (C, H, W)."""
    for name, part in files.items():
        if not len(part):
            raise UsageError(f"data: split {name!r} holds no image")
    headers = {header for part in files.values() for header in _map_images(part, _read_header)}
    (width, height) = next(iter(headers))[0]
    several = len({size for size, _ in headers}) > 1
    grey = all(mode in GREY for _, mode in headers)
    samples = sum(len(part) for part in files.values())
    large = samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT
    size = None
    if several or (large and width != height) or (image_size and (image_size, image_size) != (width, height)):
        size = image_size or DEFAULT_SIZE
        notes.append(f"images are resized and cropped to {size} pixels (--image-size)")
        width = height = size
    deep = any(is_16_bit(mode) for _, mode in headers)
    white = find_white_value([part[row] for part in files.values() for row in range(len(part))]) if deep else None
    notes += [white_note(white)] if white is not None else []
    if samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT:
        streams: dict[str, Images] = {p: FileImages(part, width, num_workers, white) for p, part in files.items()}
        return streams, (3, height, width)
    channels = 1 if grey else 3
    arrays: dict[str, Images] = {}
    for name, part in files.items():
        pixels = np.stack(_map_images(part, lambda file: decode_image(file, size, white)[..., :channels]))
        arrays[name] = MemoryImages(torch.from_numpy(pixels))
    return arrays, (channels, height, width)


def _map_images(part: EncodedImages, function: Callable[[io.BytesIO], T]) -> list[T]:
    return map_images(lambda row: function(part[row]), range(len(part)), lambda row: f"row {part.rows[row]}")


def _read_header(file: io.BytesIO) -> tuple[tuple[int, int], str]:
    """Size and mode of an image; only its header is read."""
    with open_image(file) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in ROTATED else (width, height), image.mode
