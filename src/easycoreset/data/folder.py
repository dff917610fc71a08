"""An image folder: train/ with test/ or val/, or classes only with a held-out part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from easycoreset.data.listed import TEST, TRAIN, Listed, Reading, hold_out_listed, open_listed
from easycoreset.data.source import Source
from easycoreset.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def load_folder(root: Path, reading: Reading) -> Source:
    """Open a folder of class folders of images.

    Raises:
        UsageError: no images, an empty class, or broken images, all of them named.
    """
    notes: list[str] = []
    train, test = _find_part(root, TRAIN), _find_part(root, TEST)
    names = _class_names(root if train is None else root / train)
    if train is None or test is None:
        parts, note = hold_out_listed(_list(root, root if train is None else root / train, names))
        notes.append(f"no test/ or val/: {note}")
    else:
        unknown = set(_class_names(root / test)) - set(names)
        if unknown:
            raise UsageError(f"data: {root / test}: classes that train/ lacks: {', '.join(sorted(unknown))}")
        parts = {"train": _list(root, root / train, names), "test": _list(root, root / test, names)}
        others = [item.name for item in root.iterdir() if item.name.lower() in TEST and item.name != test]
        notes += [f"{name}/ is not used: {test}/ is the test part" for name in others]
    return open_listed(str(root), parts, names, reading, notes, "flip")


def _find_part(root: Path, names: Sequence[str]) -> str | None:
    """The folder of a part, by its usual names, in capitals too; the first of them where there are several."""
    found = {item.name.lower(): item.name for item in sorted(root.iterdir()) if item.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _class_names(root: Path) -> list[str]:
    names = sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not names:
        raise UsageError(f"data: {root}: holds no class folders")
    return names


def _list(root: Path, part: Path, names: Sequence[str]) -> Listed:
    """The images below the class folders of a part, named by their paths below `root`."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (part / name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found and (part / name).is_dir():
            raise UsageError(f"data: {part / name}: class folder without images")
        for path in found:
            check_name(path)
        paths += found
        labels += [label] * len(found)
    return Listed(paths, np.array(labels, np.int64), [path.relative_to(root).as_posix() for path in paths])


def check_name(path: Path) -> None:
    """Refuse a file name that no table can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"data: the file name {str(path)!r} is not UTF-8: rename it") from None
