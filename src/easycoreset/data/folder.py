"""An image folder: train/ with test/ or val/, or classes only with a held-out part."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import features

from easycoreset.data.listed import TEST, TRAIN, Listed, Reading, hold_out_listed, open_listed
from easycoreset.data.source import Source
from easycoreset.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SUFFIXES |= {".avif"} if features.check("avif") else set()
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")  # what names begin with that are not data
NAMED = 6  # kinds of files that are passed over


def load_folder(root: Path, reading: Reading) -> Source:
    """Open a folder of class folders of images.

    Raises:
        UsageError: no images, an empty class, or broken images, all of them named.
    """
    notes: list[str] = []
    train, test = _find_part(root, TRAIN), _find_part(root, TEST)
    names = _class_names(root if train is None else root / train)
    if train is None or test is None:
        parts, note = hold_out_listed(_list(root, root if train is None else root / train, names, notes))
        notes.append(f"no test/ or val/: {note}")
    else:
        unknown = set(_class_names(root / test)) - set(names)
        if unknown:
            raise UsageError(f"data: {root / test}: classes that train/ lacks: {', '.join(sorted(unknown))}")
        parts = {"train": _list(root, root / train, names, notes), "test": _list(root, root / test, names, notes)}
        others = [item.name for item in root.iterdir() if item.name.lower() in TEST and item.name != test]
        notes += [f"{name}/ is not used: {test}/ is the test part" for name in others]
    return open_listed(str(root), parts, names, reading, notes, "flip")


def _find_part(root: Path, names: Sequence[str]) -> str | None:
    """The folder of a part, by its usual names, in capitals too; the first of them where there are several."""
    found = {item.name.lower(): item.name for item in sorted(root.iterdir()) if item.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _class_names(root: Path) -> list[str]:
    names = sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith(HIDDEN))
    if not names:
        raise UsageError(f"data: {root}: holds no class folders")
    return names


def _list(root: Path, part: Path, names: Sequence[str], notes: list[str]) -> Listed:
    """The images below the class folders of a part, named by their paths below `root`; what is passed over is said."""
    paths: list[Path] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    for label, name in enumerate(names):
        found, more = find_pictures(part / name)
        if not found and (part / name).is_dir():
            raise UsageError(f"data: {part / name}: class folder without images")
        for path in found:
            check_name(path)
        paths += found
        labels += [label] * len(found)
        others += more
    if others:
        kinds = [f"{count} {kind}" for kind, count in others.most_common()]
        said = ", ".join(kinds[:NAMED]) + ", ..." * (len(kinds) > NAMED)
        notes.append(f"passed over in {part}: {said} (pictures are {', '.join(sorted(SUFFIXES))})")
    return Listed(paths, np.array(labels, np.int64), [path.relative_to(root).as_posix() for path in paths])


def find_pictures(root: Path) -> tuple[list[Path], Counter[str]]:
    """The files below a folder that are pictures by their names, sorted, and what else is there, by kind.

    Hidden files and folders, and what systems leave beside pictures, are neither.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for place, folders, files in os.walk(root):
        linked = sum(os.path.islink(os.path.join(place, folder)) for folder in folders)
        others.update({"linked folders": linked} if linked else {})
        folders[:] = [folder for folder in folders if not folder.startswith(HIDDEN)]
        for file in (Path(place, file) for file in files if not file.startswith(HIDDEN)):
            if file.suffix.lower() in SUFFIXES:
                found.append(file)
            else:
                others[file.suffix.lower() or "without a suffix"] += 1
    return sorted(found), others


def check_name(path: Path) -> None:
    """Refuse a file name that no table can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"data: the file name {str(path)!r} is not UTF-8: rename it") from None
