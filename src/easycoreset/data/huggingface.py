"""Hugging Face data sets: by name from the hub, a folder that `save_to_disk` wrote, or Parquet files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from easycoreset.data import images
from easycoreset.data.images import FileImages, MemoryImages, channel_statistics
from easycoreset.data.listed import IMAGENET_MEAN, IMAGENET_STD, each
from easycoreset.data.source import Images, Ints, Source, Split
from easycoreset.decoding import ORIENTATION, decode, open_picture
from easycoreset.errors import UsageError, quote
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.tables.holdout import hold_out

LABELS, IDS = ("label", "labels", "fine_label", "y"), ("sample_id", "id")
TEST = ("test", "validation", "val")
GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
SIZE = 64  # to which pictures of several sizes are brought where none is given
T = TypeVar("T")
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def load_hf(name: str, image_size: int | None = None, num_workers: int = 2) -> Source:
    """Open the data set `name`; pictures of one size are kept, others resized and cropped to `image_size`.

    Raises:
        UsageError: the extra is missing, nothing is found there, no column of images or of integer labels, or
            broken images.
    """
    found = _load(name)
    if "train" not in found:
        raise UsageError(f"data: hf:{name}: holds no split 'train' (but {', '.join(found)})")
    features = found["train"].features
    picture, label = find_columns(name, features)
    parts, notes = _parts(name, found, label)
    labels = {part: _integers(name, data.with_format(None)[label][:]) for part, (data, _) in parts.items()}
    names = _class_names(name, features[label], labels["train"])
    files = {part: Pictures(data, picture, rows) for part, (data, rows) in parts.items()}
    shown, shape = _decode(files, image_size, num_workers, notes)
    splits: dict[str, Split] = {}
    for part, (data, rows) in parts.items():
        ids = _ids(data, rows)
        mark = fingerprint(ids, labels[part], (files[part][row].getvalue() for row in range(len(rows))))
        splits[part] = Split(part, shown[part], labels[part], ids, mark)
    held = shown["train"]
    mean, std = (IMAGENET_MEAN, IMAGENET_STD)
    if isinstance(held, MemoryImages):
        mean, std = channel_statistics(held.pixels.numpy())
    return Source(f"hf:{name}", splits, names, shape, mean, std, notes=notes)


class Pictures:
    """The encoded pictures of a column, each read when it is asked for; `rows` are their numbers in the whole split."""

    def __init__(self, data: Any, column: str, rows: Ints) -> None:
        from datasets import Image as ImageFeature

        self.rows, self.column, self.data = rows, column, data.select_columns([column]).with_format(None)
        if isinstance(data.features[column], ImageFeature):
            self.data = self.data.cast_column(column, ImageFeature(decode=False))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> io.BytesIO:
        held = self.data[row][self.column]
        if held is None:
            raise ValueError("no image")
        return io.BytesIO(held["bytes"] if held["bytes"] is not None else Path(held["path"]).read_bytes())


def find_columns(name: str, features: Any) -> tuple[str, str]:
    """The columns of images and of labels.

    Raises:
        UsageError: there is none, or more than one could be meant.
    """
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    encoded = {"bytes", "path"}  # what is left of an image where a Parquet file carries no types of datasets
    pictures = [c for c, kind in features.items() if isinstance(kind, ImageFeature) or set(_inner(kind)) == encoded]
    if len(pictures) != 1:
        raise UsageError(f"data: hf:{name}: must have one column of images; got {', '.join(pictures) or 'none'} among "
                         f"{', '.join(features)}")  # fmt: skip
    classes = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    named = [column for column in LABELS if column in (classes or features)]
    label = named[0] if named else classes[0] if len(classes) == 1 else None
    if label is None:
        raise UsageError(f"data: hf:{name}: must have a column of labels (a ClassLabel, or integers named "
                         f"{', '.join(LABELS)}); got {', '.join(classes or features)}")  # fmt: skip
    kind = str(getattr(features[label], "dtype", type(features[label]).__name__))
    if label not in classes and "int" not in kind:
        raise UsageError(f"data: hf:{name}: labels must be integers; column {quote(label)} is of {kind}")
    return pictures[0], label


def _inner(kind: Any) -> dict[str, Any]:
    return kind if isinstance(kind, dict) else {}


def _load(name: str) -> dict[str, Any]:
    try:
        from datasets import Dataset, load_dataset, load_from_disk
    except ImportError:
        raise UsageError(f"data: hf:{name} needs datasets: pip install easycoreset[hf]") from None
    path = Path(name)
    try:
        if path.is_dir() and any((path / file).exists() for file in ("dataset_dict.json", "state.json")):
            found: Any = load_from_disk(name)
        else:
            found = Dataset.from_parquet(name) if path.is_file() else load_dataset(name)  # the former asks nobody
    except Exception as error:  # the hub, the network and broken files raise almost anything
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"data: hf:{name}: cannot be loaded: {said}") from None
    return {"train": found} if isinstance(found, Dataset) else dict(found)


def _integers(name: str, values: Any) -> Ints:
    try:
        return np.asarray(values, np.int64)
    except (OverflowError, TypeError, ValueError):
        raise UsageError(f"data: hf:{name}: labels must be integers of 64 bits, without gaps") from None


def _parts(name: str, found: dict[str, Any], label: str) -> tuple[dict[str, tuple[Any, Ints]], list[str]]:
    """The two parts, each with its rows' numbers, and what is to be said of them."""
    labelled = [part for part in TEST if part in found and _integers(name, found[part][label][:]).min(initial=0) >= 0]
    train = found["train"]
    if labelled:
        test = labelled[0]
        parts = {"train": (train, _numbers(train)), "test": (found[test], _numbers(found[test]))}
        return parts, [] if test == "test" else [f"split {quote(test)} is the test part"]
    rows = hold_out(_integers(name, train[label][:]))
    parts = {part: (train.select(own), own) for part, own in zip(("train", "test"), rows, strict=True)}
    return parts, [f"no labelled test part: a seeded, stratified fifth ({len(rows[1])} images) is held out"]


def _numbers(data: Any) -> Ints:
    return np.arange(len(data), dtype=np.int64)


def _ids(data: Any, rows: Ints) -> list[str]:
    """The names in a column of them, where they tell the rows apart, else the rows' numbers."""
    for column in IDS:
        if str(getattr(data.features.get(column), "dtype", "")) == "string":
            named = list(data[column][:])
            if None not in named and len(set(named)) == len(named):
                return named
    return [str(row) for row in rows.tolist()]


def _class_names(name: str, kind: Any, labels: Ints) -> list[str]:
    names = getattr(kind, "names", None)
    if names is not None:
        return list(names)
    classes = int(labels.max(initial=-1)) + 1
    if classes > len(labels):
        raise UsageError(f"data: hf:{name}: fewer samples ({len(labels)}) than classes ({classes}, by the largest "
                         "label)")  # fmt: skip
    return [str(k) for k in range(classes)]


def _decode(files: dict[str, Pictures], image_size: int | None, num_workers: int,
            notes: list[str]) -> tuple[dict[str, Images], tuple[int, int, int]]:  # fmt: skip
    """Decode all pictures where they fit into memory, else leave that to workers; also (C, H, W)."""
    for name, part in files.items():
        if not len(part):
            raise UsageError(f"data: split {name!r} holds no image")
    heads = {head for part in files.values() for head in _each_of(part, _head)}
    (width, height), several = next(iter(heads))[0], len({size for size, _ in heads}) > 1
    grey = all(mode in GREY for _, mode in heads)
    samples = sum(len(part) for part in files.values())
    large = samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT
    size = None
    if several or (large and width != height) or (image_size and (image_size, image_size) != (width, height)):
        size = image_size or SIZE
        notes.append(f"images are resized and cropped to {size} pixels (--image-size)")
        width = height = size
    if samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT:
        streams: dict[str, Images] = {p: FileImages(part, width, num_workers) for p, part in files.items()}
        return streams, (3, height, width)
    channels = 1 if grey else 3
    held: dict[str, Images] = {}
    for name, part in files.items():
        pixels = np.stack(_each_of(part, lambda file: decode(file, size)[..., :channels]))
        held[name] = MemoryImages(torch.from_numpy(pixels))
    return held, (channels, height, width)


def _each_of(part: Pictures, look: Callable[[io.BytesIO], T]) -> list[T]:
    return each(lambda row: look(part[row]), range(len(part)), lambda row: f"row {part.rows[row]}")


def _head(file: io.BytesIO) -> tuple[tuple[int, int], str]:
    """Size and mode of a picture, of which the header is read alone."""
    with open_picture(file) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height), image.mode
