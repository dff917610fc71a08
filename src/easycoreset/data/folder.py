"""An image folder: train/ with test/ or val/, or classes only with a held-out part."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from PIL import Image

from easycoreset.data import images
from easycoreset.data.images import FileImages, MemoryImages, decode
from easycoreset.data.source import Ints, Source, Split, fingerprint
from easycoreset.errors import UsageError
from easycoreset.tables.holdout import hold_out

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
K = TypeVar("K")
T = TypeVar("T")
DECODED_BEFOREHAND = 50_000  # pictures, up to which a large folder is decoded once to find broken ones
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_folder(root: Path, image_size: int = 64, num_workers: int = 2) -> Source:
    """Open a folder of class folders of images; small ones are decoded at once, large ones as they are needed.

    Raises:
        UsageError: no images, an empty class, or broken images, all of them named.
    """
    notes = [f"images are resized and cropped to {image_size} pixels (--image-size)"]
    train, test = _find_part(root, TRAIN), _find_part(root, TEST)
    if train is not None:
        names = _class_names(root / train)
        paths, labels = _list(root / train, names)
        if test is None:
            parts, note = _held_out(paths, labels)
            notes.append(note)
        else:
            unknown = set(_class_names(root / test)) - set(names)
            if unknown:
                raise UsageError(f"data: {root / test}: classes that train/ lacks: {', '.join(sorted(unknown))}")
            parts = {"train": (paths, labels), "test": _list(root / test, names)}
            others = [item.name for item in root.iterdir() if item.name.lower() in TEST and item.name != test]
            notes += [f"{name}/ is not used: {test}/ is the test part" for name in others]
    else:
        names = _class_names(root)
        parts, note = _held_out(*_list(root, names))
        notes.append(note)
    marks = {name: _fingerprint(root, *part) for name, part in parts.items()}
    paths = [path for found, _ in parts.values() for path in found]
    if len(paths) * image_size**2 * 3 <= images.MEMORY_LIMIT:
        pixels = np.stack(each(lambda path: decode(path, image_size), paths))
        held = dict(zip(parts, np.split(pixels, [len(parts["train"][0])]), strict=True))
        shown = {name: MemoryImages(torch.from_numpy(part)) for name, part in held.items()}
    else:
        each(_verify if len(paths) <= DECODED_BEFOREHAND else _verify_header, paths)
        shown = {name: FileImages(found, image_size, num_workers) for name, (found, _) in parts.items()}
    splits = {name: Split(name, shown[name], part[1], *marks[name]) for name, part in parts.items()}
    return Source(str(root), splits, names, (3, image_size, image_size), IMAGENET_MEAN, IMAGENET_STD, "flip", notes)


def _find_part(root: Path, names: Sequence[str]) -> str | None:
    """The folder of a part, by its usual names, in capitals too; the first of them where there are several."""
    found = {item.name.lower(): item.name for item in sorted(root.iterdir()) if item.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _class_names(root: Path) -> list[str]:
    names = sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise UsageError(f"data: {root}: holds no class folders")
    return names


def _list(root: Path, names: Sequence[str]) -> tuple[list[Path], Ints]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found and (root / name).is_dir():
            raise UsageError(f"data: {root / name}: class folder without images")
        for path in found:
            _check_name(path)
        paths += found
        labels += [label] * len(found)
    return paths, np.array(labels, np.int64)


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"data: the file name {str(path)!r} is not UTF-8: rename it") from None


def _held_out(paths: list[Path], labels: Ints) -> tuple[dict[str, tuple[list[Path], Ints]], str]:
    parts = {
        name: ([paths[row] for row in rows], labels[rows])
        for name, rows in zip(("train", "test"), hold_out(labels), strict=True)
    }
    return parts, f"no test/ or val/: a seeded, stratified fifth ({len(parts['test'][0])} images) is held out"


def _fingerprint(root: Path, paths: Sequence[Path], labels: Ints) -> tuple[list[str], str]:
    """Sample ids, and the fingerprint over path, label and size: a copied folder is the same data."""
    ids = [path.relative_to(root).as_posix() for path in paths]
    return ids, fingerprint(ids, labels, [str(path.stat().st_size).encode() for path in paths])


def _verify(path: Path) -> None:
    """Decode a picture, since a header tells little; in a very large folder the header must do."""
    with Image.open(path) as image:
        image.load()


def _verify_header(path: Path) -> None:
    with Image.open(path) as image:
        image.verify()


def each(look: Callable[[K], T], items: Sequence[K], name: Callable[[K], str] = str) -> list[T]:
    """Do `look` with every item; all those that fail are named at once."""
    broken: list[str] = []

    def attempt(item: K) -> T | None:
        try:
            return look(item)
        except Exception as error:  # PIL raises almost anything on broken files
            broken.append(f"{name(item)} ({error})")
            return None

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, items))
    if broken:
        raise UsageError(f"data: {len(broken)} broken image{'s' * (len(broken) > 1)}: {', '.join(sorted(broken))}")
    return cast("list[T]", results)
