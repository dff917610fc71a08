"""Pictures in files, as a folder or a manifest lists them: decoded at once where they fit, else as they are needed."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
import torch

from easycoreset.console import log, say_name
from easycoreset.data import images
from easycoreset.data.images import FileImages, MemoryImages
from easycoreset.data.source import Images, Ints, Source, Split
from easycoreset.decoding import begins_as_picture, decode, find_white, open_picture, say_broken
from easycoreset.errors import EasycoresetWarning, UsageError
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.tables.holdout import hold_out_named

K = TypeVar("K")
T = TypeVar("T")
DECODED_BEFOREHAND = 50_000  # pictures, up to which a large data set is decoded once to find broken ones
LOOKED_AT = 1000  # pictures of a very large data set whose depth is looked at
AT_ONCE = 1000  # pictures that wait for a thread: each takes memory while it waits
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FEW = 10  # samples of a class


@dataclass(frozen=True)
class Listed:
    """The samples of one split: paths, labels [N] and stable names."""

    paths: list[Path]
    labels: Ints
    ids: list[str]

    def take(self, rows: Ints) -> "Listed":
        """Some of them, in that order."""
        return Listed([self.paths[row] for row in rows], self.labels[rows], [self.ids[row] for row in rows])


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read: side in pixels, workers of a large data set, whether broken ones are left out, classes."""

    image_size: int = 64
    num_workers: int = 2
    skip_broken: bool = False
    classes: str | None = None


def hold_out_listed(whole: Listed) -> tuple[dict[str, Listed], str]:
    """Training and test part of what has no test part, and what is to be said of it."""
    train, test = hold_out_named(whole.labels, whole.ids)
    parts = {"train": whole.take(train), "test": whole.take(test)}
    return parts, f"a seeded, stratified fifth ({len(test)} images) is held out"


def open_listed(
    name: str,
    parts: dict[str, Listed],
    class_names: Sequence[str],
    reading: Reading,
    notes: list[str],
    augmentation: Literal["none", "flip"] = "none",
) -> Source:
    """Make the data set of files that were listed.

    Raises:
        UsageError: broken images, all of them named; with `skip_broken`, more than half of them, or a whole class.
    """
    size = reading.image_size
    notes = [f"images are resized and cropped to {size} pixels (--image-size)", *notes]
    paths = [path for part in parts.values() for path in part.paths]
    small = len(paths) * size**2 * 3 <= images.MEMORY_LIMIT
    thorough = len(paths) <= DECODED_BEFOREHAND or reading.skip_broken
    if thorough and len(paths) > DECODED_BEFOREHAND:
        log.info("%s: %s images are decoded once to find broken ones", name, f"{len(paths):,}")
    white = find_white(paths if thorough else paths[:: max(1, len(paths) // LOOKED_AT)])
    notes += [say_white(white)] if white is not None else []
    look = partial(decode, size=size, white=white) if small else partial(_try, size=size if thorough else None)
    found, broken = attempt(look, paths)
    left_out = [f"{say_name(paths[place])} ({reason})" for place, reason in broken.items()]
    if broken:
        _refuse(left_out, len(paths), reading.skip_broken)
        parts = _without(parts, broken, class_names)
        first = ", ".join(left_out[:3]) + (", ..." if len(broken) > 3 else "")
        notes.append(f"{len(broken)} broken image{'s are' if len(broken) > 1 else ' is'} left out: {first}")
    shown: dict[str, Images] = {
        p: FileImages(part.paths, size, reading.num_workers, white) for p, part in parts.items()
    }
    if small:
        pixels = np.stack([picture for picture in found if picture is not None])
        held = np.split(pixels, [len(parts["train"].paths)])
        shown = {p: MemoryImages(torch.from_numpy(own)) for p, own in zip(parts, held, strict=True)}
    splits = {p: Split(p, shown[p], part.labels, part.ids, _mark(part)) for p, part in parts.items()}
    source = Source(
        name, splits, class_names, (3, size, size), IMAGENET_MEAN, IMAGENET_STD, augmentation, notes, left_out
    )
    _warn_of_small_classes(source)
    return source


def say_white(white: int) -> str:
    """What is said of pictures of more than 8 bits."""
    return f"pictures of 16 bits do not say which value is white: {white} is, by the largest of all"


def _mark(part: Listed) -> str:
    """The fingerprint over name, label and size: copied files are the same data."""
    return fingerprint(part.ids, part.labels, [str(path.stat().st_size).encode() for path in part.paths])


def _try(path: Path, size: int | None) -> bool:
    """Decode a picture, since its beginning tells little; in a very large data set (size None) that must do."""
    if size is not None:
        return decode(path, size) is not None
    if not begins_as_picture(path):
        with open_picture(path) as image:
            image.verify()
    return True


def _refuse(broken: list[str], total: int, skip: bool) -> None:
    if not skip:
        raise UsageError(
            f"data: {len(broken)} broken image{'s' * (len(broken) > 1)}: {', '.join(sorted(broken))} "
            "(--skip-broken leaves them out)"
        )
    if 2 * len(broken) > total:
        raise UsageError(
            f"skip_broken: {len(broken)} of {total} images are broken, more than half of them: "
            f"{', '.join(broken[:3])}, ..."
        )


def _without(parts: dict[str, Listed], broken: dict[int, str], class_names: Sequence[str]) -> dict[str, Listed]:
    """The parts without the samples at these places of all of them in a row."""
    kept: dict[str, Listed] = {}
    start = 0
    for name, part in parts.items():
        gone = {place - start for place in broken}
        rows = np.array([row for row in range(len(part.paths)) if row not in gone], np.int64)
        kept[name] = part.take(rows)
        start = start + len(part.paths)
    lost = sorted(set(parts["train"].labels.tolist()) - set(kept["train"].labels.tolist()))
    if lost:
        said = ", ".join(say_name(class_names[label]) for label in lost)
        raise UsageError(f"skip_broken: no image of class {said} can be read")
    return kept


def _warn_of_small_classes(source: Source) -> None:
    counts = np.bincount(source.splits["train"].labels, minlength=len(source.class_names)).tolist()
    few = [f"{say_name(k)} ({n})" for k, n in zip(source.class_names, counts, strict=True) if 0 < n < FEW]
    if few:
        more = f" and {len(few) - 20} more" if len(few) > 20 else ""
        said = f"{source.name}: fewer than {FEW} training samples of class {', '.join(few[:20])}{more}"
        warnings.warn(said, EasycoresetWarning, stacklevel=6)


def attempt(look: Callable[[K], T], items: Sequence[K]) -> tuple[list[T | None], dict[int, str]]:
    """Do `look` with every item; also what is wrong with those that fail, by their places."""
    broken: dict[int, str] = {}

    def one(place: int) -> T | None:
        try:
            return look(items[place])
        except Exception as error:  # PIL raises almost anything on broken files
            broken[place] = say_broken(error)
            return None

    places = range(len(items))
    with ThreadPoolExecutor(4) as pool:
        results = [found for start in places[::AT_ONCE] for found in pool.map(one, places[start : start + AT_ONCE])]
    return results, dict(sorted(broken.items()))


def each(look: Callable[[K], T], items: Sequence[K], name: Callable[[K], str] = str) -> list[T]:
    """Do `look` with every item; all those that fail are named at once."""
    results, broken = attempt(look, items)
    if broken:
        said = sorted(f"{name(items[place])} ({reason})" for place, reason in broken.items())
        raise UsageError(f"data: {len(broken)} broken image{'s' * (len(broken) > 1)}: {', '.join(said)}")
    return cast("list[T]", results)
