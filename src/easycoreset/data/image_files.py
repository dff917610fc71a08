"""Image files listed by a folder or a manifest: decoded at once if they fit into memory, else as they are needed."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import torch

from easycoreset.console import log, printable_name
from easycoreset.data import images
from easycoreset.data.images import FileImages, MemoryImages
from easycoreset.data.source import HELD_OUT, Images, Ints, Reading, Source, Split
from easycoreset.errors import EasycoresetWarning, UsageError
from easycoreset.image_decoding import (
    decode_image,
    describe_read_error,
    find_white_value,
    has_image_signature,
    open_image,
)
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.tables.holdout import hold_out_by_id

K = TypeVar("K")
T = TypeVar("T")
IMAGE_SIZE = 64  # pixels, unless it is said otherwise
MAX_FULL_CHECK = 50_000  # images; a large data set up to this size is decoded once to find unreadable ones
BIT_DEPTH_SAMPLE = 1000  # images of a very large data set whose bit depth is examined
MAX_QUEUED = 1000  # images that are handed to the threads at a time, to bound memory
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_CLASS_SAMPLES = 10  # samples of a class, below which a warning is given


@dataclass(frozen=True)
class ListedImages:
    """The samples of one split: paths, labels [N] and ids, which do not depend on where the files lie."""

    paths: list[Path]
    labels: Ints
    ids: list[str]

    def take(self, rows: Ints) -> "ListedImages":
        """The samples `rows`, in that order."""
        return ListedImages([self.paths[row] for row in rows], self.labels[rows], [self.ids[row] for row in rows])


def hold_out_listed(samples: ListedImages) -> tuple[dict[str, ListedImages], str]:
    """Divide samples that have no test split into a training and a test split; returns also a note for the user."""
    train, test = hold_out_by_id(samples.labels, samples.ids)
    parts = {"train": samples.take(train), "test": samples.take(test)}
    return parts, f"a seeded, stratified fifth ({len(test)} images) {HELD_OUT}"


def open_listed(
    name: str,
    parts: dict[str, ListedImages],
    class_names: Sequence[str],
    reading: Reading,
    notes: list[str],
    augmentation: Literal["none", "flip"] = "none",
) -> Source:
    """Make a data set of listed files.

    Raises:
        UsageError: images are unreadable (all are named); with `skip_unreadable`, only if more than half of the images
            or all images of a class are.
    """
    size = reading.image_size or IMAGE_SIZE
    notes = [f"images are resized and cropped to {size} pixels (--image-size)", *notes]
    paths = [path for part in parts.values() for path in part.paths]
    small = len(paths) * size**2 * 3 <= images.MEMORY_LIMIT
    thorough = len(paths) <= MAX_FULL_CHECK or reading.skip_unreadable
    if thorough and len(paths) > MAX_FULL_CHECK:
        log.info("%s: %s images are decoded once to find unreadable ones", name, f"{len(paths):,}")
    # the pixel value that is scaled to 1 in images of more than 8 bits; None without such images
    white = find_white_value(paths if thorough else paths[:: max(1, len(paths) // BIT_DEPTH_SAMPLE)])
    notes += [white_note(white)] if white is not None else []
    read = (
        partial(decode_image, size=size, white=white)
        if small
        else partial(_check_readable, size=size if thorough else None)
    )
    arrays, errors = map_with_errors(read, paths)
    left_out = [f"{printable_name(paths[position])} ({reason})" for position, reason in errors.items()]
    if errors:
        _refuse_unreadable(left_out, len(paths), reading.skip_unreadable)
        parts = _drop_unreadable(parts, errors, class_names)
        first = ", ".join(left_out[:3]) + (", ..." if len(errors) > 3 else "")
        notes.append(f"{len(errors)} unreadable image{'s are' if len(errors) > 1 else ' is'} left out: {first}")
    images_of: dict[str, Images] = {
        p: FileImages(part.paths, size, reading.num_workers, white) for p, part in parts.items()
    }
    if small:
        pixels = np.stack([array for array in arrays if array is not None])
        part_pixels = np.split(pixels, [len(parts["train"].paths)])
        images_of = {p: MemoryImages(torch.from_numpy(array)) for p, array in zip(parts, part_pixels, strict=True)}
    splits = {p: Split(p, images_of[p], part.labels, part.ids, _fingerprint(part)) for p, part in parts.items()}
    source = Source(
        name, splits, class_names, (3, size, size), IMAGENET_MEAN, IMAGENET_STD, augmentation, notes, left_out
    )
    _warn_of_small_classes(source)
    return source


def white_note(white: int) -> str:
    """The note on images of more than 8 bits per channel."""
    return f"16-bit images do not define which value is white: {white} is taken, from the largest value of all images"


def _fingerprint(part: ListedImages) -> str:
    """The fingerprint over sample id, label and file size: copied files are the same data."""
    return fingerprint(part.ids, part.labels, [str(path.stat().st_size).encode() for path in part.paths])


def _check_readable(path: Path, size: int | None) -> None:
    """Decode an image, which raises if it is unreadable; in a very large data set (size None) only check its header."""
    if size is not None:
        decode_image(path, size)
    elif not has_image_signature(path):  # damaged, or a format that has no known signature
        with open_image(path) as image:
            image.verify()


def _refuse_unreadable(unreadable: list[str], total: int, skip: bool) -> None:
    if not skip:
        raise UsageError(
            f"data: {len(unreadable)} unreadable image{'s' * (len(unreadable) > 1)}: {', '.join(sorted(unreadable))} "
            "(--skip-unreadable leaves them out)"
        )
    if 2 * len(unreadable) > total:
        raise UsageError(
            f"skip_unreadable: {len(unreadable)} of {total} images are unreadable, more than half of them: "
            f"{', '.join(unreadable[:3])}, ..."
        )


def _drop_unreadable(
    parts: dict[str, ListedImages], errors: dict[int, str], class_names: Sequence[str]
) -> dict[str, ListedImages]:
    """The parts without unreadable samples; the keys of `errors` are positions in the concatenation of all parts."""
    kept: dict[str, ListedImages] = {}
    start = 0
    for name, part in parts.items():
        dropped = {position - start for position in errors}
        rows = np.array([row for row in range(len(part.paths)) if row not in dropped], np.int64)
        kept[name] = part.take(rows)
        start = start + len(part.paths)
    lost = sorted(set(parts["train"].labels.tolist()) - set(kept["train"].labels.tolist()))
    if lost:
        names = ", ".join(printable_name(class_names[label]) for label in lost)
        raise UsageError(f"skip_unreadable: no image of class {names} can be read")
    return kept


def _warn_of_small_classes(source: Source) -> None:
    counts = np.bincount(source.splits["train"].labels, minlength=len(source.class_names)).tolist()
    few = [
        f"{printable_name(k)} ({n})"
        for k, n in zip(source.class_names, counts, strict=True)
        if 0 < n < MIN_CLASS_SAMPLES
    ]
    if few:
        more = f" and {len(few) - 20} more" if len(few) > 20 else ""
        message = f"{source.name}: fewer than {MIN_CLASS_SAMPLES} training samples of class {', '.join(few[:20])}{more}"
        warnings.warn(message, EasycoresetWarning, stacklevel=6)


def map_with_errors(function: Callable[[K], T], items: Sequence[K]) -> tuple[list[T | None], dict[int, str]]:
    """Call `function` with every item; returns also the reasons of those that fail, by position."""
    errors: dict[int, str] = {}

    def call(position: int) -> T | None:
        try:
            return function(items[position])
        except Exception as error:  # PIL raises almost any exception on damaged files
            errors[position] = describe_read_error(error)
            return None

    positions = range(len(items))
    with ThreadPoolExecutor(4) as pool:
        results = [
            result
            for start in positions[::MAX_QUEUED]
            for result in pool.map(call, positions[start : start + MAX_QUEUED])
        ]
    return results, dict(sorted(errors.items()))


def map_images(function: Callable[[K], T], items: Sequence[K], name: Callable[[K], str] = str) -> list[T]:
    """Call `function` with every item; one error names all items that fail."""
    results, errors = map_with_errors(function, items)
    if errors:
        unreadable = sorted(f"{name(items[position])} ({reason})" for position, reason in errors.items())
        raise UsageError(f"data: {len(errors)} unreadable image{'s' * (len(errors) > 1)}: {', '.join(unreadable)}")
    return cast("list[T]", results)
