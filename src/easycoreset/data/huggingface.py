"""Hugging Face data sets: by name from the hub, a folder that `save_to_disk` wrote, or Parquet files."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from easycoreset.data import images
from easycoreset.data.classes import number_classes
from easycoreset.data.images import FileImages, MemoryImages, channel_statistics
from easycoreset.data.listed import IMAGENET_MEAN, IMAGENET_STD, each, say_white
from easycoreset.data.parts import choose_parts
from easycoreset.data.source import Images, Ints, Source, Split
from easycoreset.decoding import ORIENTATION, decode, find_white, open_picture
from easycoreset.depth import is_deep
from easycoreset.errors import UsageError, quote
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.tables.holdout import hold_out

LABELS = ("label", "labels", "fine_label", "y")
IDS = ("sample_id", "id")
GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
SIZE = 64  # to which pictures of several sizes are brought where none is given
T = TypeVar("T")
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def load_hf(name: str, image_size: int | None = None, num_workers: int = 2, classes: str | None = None) -> Source:
    """Open the data set `name`; pictures of one size are kept, others resized and cropped to `image_size`.

    Raises:
        UsageError: the extra is missing, nothing is found there, no column of images or of labels, or broken images.
    """
    found = _load(name)
    train, tests = choose_parts(found)
    if not train:
        raise UsageError(f"data: hf:{name}: holds no split 'train' (but {', '.join(found)})")
    features = found[train[0]].features
    picture, label = find_columns(name, features)
    written = {part: _labels(data, label) for part, data in found.items() if part in (train[0], *tests)}
    labelled = [part for part in tests if not {None, -1} & set(written[part])]
    chosen = {"train": train[0], **({"test": labelled[0]} if labelled else {})}
    named = getattr(features[label], "names", None) or ()
    given = {part: written[held] for part, held in chosen.items()}
    names, labels, notes = number_classes(given, f"hf:{name}", classes, named=named)
    parts = {part: (found[held], np.arange(len(found[held]), dtype=np.int64)) for part, held in chosen.items()}
    if not labelled:
        rows = dict(zip(("train", "test"), hold_out(labels["train"]), strict=True))
        parts = {part: (found[train[0]].select(own), own) for part, own in rows.items()}
        labels = {part: labels["train"][own] for part, own in rows.items()}
        notes.append(f"no labelled test part: a seeded, stratified fifth ({len(rows['test'])} images) is held out")
    elif labelled[0] != "test":
        notes.append(f"split {quote(labelled[0])} is the test part")
    files = {part: Pictures(data, picture, rows) for part, (data, rows) in parts.items()}
    shown, shape = _decode(files, image_size, num_workers, notes)
    splits: dict[str, Split] = {}
    for part, (data, rows) in parts.items():
        ids = _ids(data, rows)
        mark = fingerprint(ids, labels[part], (files[part][row].getvalue() for row in range(len(rows))))
        splits[part] = Split(part, shown[part], labels[part], ids, mark)
    held = shown["train"]
    mean = IMAGENET_MEAN
    std = IMAGENET_STD
    if isinstance(held, MemoryImages):
        mean, std = channel_statistics(held.pixels.numpy())
    return Source(f"hf:{name}", splits, names, shape, mean, std, notes=notes)


class Pictures:
    """The encoded pictures of a column, each read when it is asked for; `rows` are their numbers in the whole split."""

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
        raise UsageError(
            f"data: hf:{name}: must have one column of images; got {', '.join(pictures) or 'none'} among "
            f"{', '.join(features)}"
        )
    classes = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    named = [column for column in LABELS if column in (classes or features)]
    label = named[0] if named else classes[0] if len(classes) == 1 else None
    if label is None:
        raise UsageError(
            f"data: hf:{name}: must have a column of labels (a ClassLabel, or one named "
            f"{', '.join(LABELS)}); got {', '.join(classes or features)}"
        )
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


def _labels(data: Any, label: str) -> list[Any]:
    return list(data.with_format(None)[label][:])


def _ids(data: Any, rows: Ints) -> list[str]:
    """The names in a column of them, where they tell the rows apart, else the rows' numbers."""
    for column in IDS:
        if str(getattr(data.features.get(column), "dtype", "")) == "string":
            named = list(data[column][:])
            if None not in named and len(set(named)) == len(named):
                return named
    return [str(row) for row in rows.tolist()]


def _decode(
    files: dict[str, Pictures], image_size: int | None, num_workers: int, notes: list[str]
) -> tuple[dict[str, Images], tuple[int, int, int]]:
    """Decode all pictures where they fit into memory, else leave that to workers; also (C, H, W)."""
    for name, part in files.items():
        if not len(part):
            raise UsageError(f"data: split {name!r} holds no image")
    heads = {head for part in files.values() for head in _each_of(part, _head)}
    (width, height) = next(iter(heads))[0]
    several = len({size for size, _ in heads}) > 1
    grey = all(mode in GREY for _, mode in heads)
    samples = sum(len(part) for part in files.values())
    large = samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT
    size = None
    if several or (large and width != height) or (image_size and (image_size, image_size) != (width, height)):
        size = image_size or SIZE
        notes.append(f"images are resized and cropped to {size} pixels (--image-size)")
        width = height = size
    deep = any(is_deep(mode) for _, mode in heads)
    white = find_white([part[row] for part in files.values() for row in range(len(part))]) if deep else None
    notes += [say_white(white)] if white is not None else []
    if samples * width * height * (1 if grey else 3) > images.MEMORY_LIMIT:
        streams: dict[str, Images] = {p: FileImages(part, width, num_workers, white) for p, part in files.items()}
        return streams, (3, height, width)
    channels = 1 if grey else 3
    held: dict[str, Images] = {}
    for name, part in files.items():
        pixels = np.stack(_each_of(part, lambda file: decode(file, size, white)[..., :channels]))
        held[name] = MemoryImages(torch.from_numpy(pixels))
    return held, (channels, height, width)


def _each_of(part: Pictures, look: Callable[[io.BytesIO], T]) -> list[T]:
    return each(lambda row: look(part[row]), range(len(part)), lambda row: f"row {part.rows[row]}")


def _head(file: io.BytesIO) -> tuple[tuple[int, int], str]:
    """Size and mode of a picture, of which the header is read alone."""
    with open_picture(file) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height), image.mode
