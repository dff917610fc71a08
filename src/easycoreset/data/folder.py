"""An image folder: a training and a test part, or classes only with a held-out part."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import features

from easycoreset.data.classes import number_classes, say_all
from easycoreset.data.listed import Listed, Reading, hold_out_listed, open_listed
from easycoreset.data.parts import choose_parts, fold_name, part_of
from easycoreset.data.source import Source
from easycoreset.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SUFFIXES |= {".avif"} if features.check("avif") else set()
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")  # what names begin with that are not data
NAMED = 6  # kinds of files that are passed over


def load_folder(root: Path, reading: Reading) -> Source:
    """Open a folder of class folders of images.

    Parts are known by the usual words for them (`parts.py`), where they hold class folders and no pictures.

    Raises:
        UsageError: no images, an empty class, folders of which it is not clear what they are, or broken images.
    """
    notes: list[str] = []
    train, test = _find_parts(root, notes)
    names = _class_names(root if train is None else root / train)
    given = reading.classes
    whole = {"train": _list(root, root if train is None else root / train, names, notes)}
    if test is not None and train is not None:
        theirs = _class_names(root / test)
        unknown = {fold_name(name) for name in theirs} - {fold_name(name) for name in names}
        if unknown and given is None:
            raise UsageError(f"data: {root / test}: classes that {train}/ lacks: {say_all(sorted(unknown))}")
        whole["test"] = _list(root, root / test, theirs, notes)
    written = {part: listed[1] for part, listed in whole.items()}
    class_names, labels, more = number_classes(written, str(root), given, as_text=True)
    notes += more
    parts = {
        part: Listed(paths, labels[part], [path.relative_to(root).as_posix() for path in paths])
        for part, (paths, _) in whole.items()
    }
    if "test" not in parts:
        parts, note = hold_out_listed(parts["train"])
        notes.append(f"no test/ or val/: {note}")
    return open_listed(str(root), parts, class_names, reading, notes, "flip")


def _find_parts(root: Path, notes: list[str]) -> tuple[str | None, str | None]:
    """The folders of the training and the test part; what is beside them is said.

    Raises:
        UsageError: several training parts, or a folder that may be the test part by another name.
    """
    inner = {name: _folders(root / name) for name in _folders(root) if not _holds_pictures(root / name)}
    parts = {name for name, folders in inner.items() if folders}
    trains, tests = choose_parts(parts)
    if not trains:
        _refuse_wrapped(root, inner)
        return None, None
    train = trains[0]
    if len(trains) > 1:
        raise UsageError(f"data: {root}: several folders may be the training part: {say_all(trains)}")
    test = tests[0] if tests else None
    alike = [name for name in sorted(parts) if name not in (*trains, *tests) and _share(inner[name], inner[train])]
    if test is None and alike:
        raise UsageError(
            f"data: {root}: {alike[0]}/ holds the classes of {train}/ too: call it test/ if it is the test"
            " part, or move it away"
        )
    classes = [name for name in _folders(root) if name not in inner and part_of(name) is None]
    if test is None and classes:
        raise UsageError(
            f"data: {root}: {say_all(classes)} hold pictures beside {train}/, which holds folders: "
            f"is {train} a class or the training part? Move one of them away"
        )
    chosen = f": {test}/ is the test part" if test else ""
    others = [name for name in _folders(root) if name not in (train, test)]
    notes += [f"{name}/ is not used{chosen if name in (*trains, *tests) else ''}" for name in others]
    return train, test


def _refuse_wrapped(root: Path, inner: dict[str, list[str]]) -> None:
    """Refuse folders that are no classes: one that wraps the data, or several with the same folders in them."""
    names = _folders(root)
    if len(names) == 1 and len(inner.get(names[0], [])) > 0:
        place = root / names[0]
        while len(_folders(place)) == 1 and not _holds_pictures(place):
            place = place / _folders(place)[0]
        if len(_folders(place)) > 1:
            raise UsageError(f"data: {root}: holds the one folder {names[0]}: did you mean {place}?")
    shared = [set(map(fold_name, folders)) for folders in inner.values()]
    if len(names) > 1 and len(inner) == len(names) and all(_share([*found], [*shared[0]]) for found in shared):
        held = say_all(inner[names[0]])
        raise UsageError(
            f"data: {root}: {say_all(names)} all hold the folders {held}: are these the classes? Name the "
            f"training part train and the test part test, or take {root / names[0]}"
        )


def _share(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two folders have at least two folders, and most of them, in common."""
    common = {fold_name(name) for name in names} & {fold_name(name) for name in others}
    return len(common) >= 2 and 2 * len(common) > min(len(names), len(others))


def _folders(root: Path) -> list[str]:
    return sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith(HIDDEN))


def _holds_pictures(root: Path) -> bool:
    with os.scandir(root) as items:
        return any(Path(item.name).suffix.lower() in SUFFIXES and not item.name.startswith(HIDDEN) for item in items)


def _class_names(root: Path) -> list[str]:
    names = _folders(root)
    if not names:
        raise UsageError(f"data: {root}: holds no class folders")
    return names


def _list(root: Path, part: Path, names: Sequence[str], notes: list[str]) -> tuple[list[Path], list[str]]:
    """The images below the class folders of a part, and their classes; what is passed over is said."""
    paths: list[Path] = []
    labels: list[str] = []
    others: Counter[str] = Counter()
    merged: list[str] = []
    for name in names:
        found, more = find_pictures(part / name)
        if not found:
            raise UsageError(f"data: {part / name}: class folder without images")
        for path in found:
            check_name(path)
        paths += found
        labels += [fold_name(name)] * len(found)
        others += more
        below = {path.relative_to(part / name).parts[0] for path in found}
        merged += [name] if len(below & set(_folders(part / name))) > 1 else []
    if merged:
        notes.append(f"the folders below {say_all(merged)} in {part} are one class each")
    if others:
        kinds = [f"{count} {kind}" for kind, count in others.most_common()]
        said = ", ".join(kinds[:NAMED]) + ", ..." * (len(kinds) > NAMED)
        notes.append(f"passed over in {part}: {said} (pictures are {', '.join(sorted(SUFFIXES))})")
    return paths, labels


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
