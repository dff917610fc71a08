"""An image folder: folders of the training and the test split, or only class folders, and a held-out test split."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import features

from easycoreset.data.classes import format_names, number_classes
from easycoreset.data.image_files import ListedImages, hold_out_listed, open_listed
from easycoreset.data.source import Reading, Source
from easycoreset.data.split_names import choose_splits, normalise_name, parse_split_name
from easycoreset.errors import UsageError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
IMAGE_SUFFIXES |= {".avif"} if features.check("avif") else set()
HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")  # name prefixes of files and folders that are not data
MAX_SHOWN = 6  # kinds of skipped files listed in a message


def load_folder(location: str, reading: Reading) -> Source:
    """Open a folder of class folders of images.

    The folders of splits are recognised by their usual names (`split_names.py`) if they contain folders and no images.

    Raises:
        UsageError: no images, an empty class, folders whose role is unclear, or unreadable images.
    """
    root = Path(location)
    notes: list[str] = []
    train, test = _find_splits(root, notes)
    names = _class_names(root if train is None else root / train)
    classes = reading.classes
    files = {"train": _list_split(root if train is None else root / train, names, notes)}
    if test is not None and train is not None:
        test_classes = _class_names(root / test)
        unknown = {normalise_name(name) for name in test_classes} - {normalise_name(name) for name in names}
        if unknown and classes is None:
            raise UsageError(f"data: {root / test}: classes that are not in {train}/: {format_names(sorted(unknown))}")
        files["test"] = _list_split(root / test, test_classes, notes)
    names_by_split = {split: image_labels for split, (_, image_labels) in files.items()}
    class_names, labels, class_notes = number_classes(names_by_split, str(root), classes, as_text=True)
    notes += class_notes
    splits = {
        split: ListedImages(paths, labels[split], [path.relative_to(root).as_posix() for path in paths])
        for split, (paths, _) in files.items()
    }
    if "test" not in splits:
        splits, note = hold_out_listed(splits["train"])
        notes.append(f"no test/ or val/: {note}")
    return open_listed(str(root), splits, class_names, reading, notes, "flip")


def _find_splits(root: Path, notes: list[str]) -> tuple[str | None, str | None]:
    """Find the folders of the training and the test split; `notes` gets a line for each other folder.

    Raises:
        UsageError: several training splits, or a folder that may be the test split under another name.
    """
    subfolders = {name: _folders(root / name) for name in _folders(root) if not _contains_images(root / name)}
    split_names = {name for name, folders in subfolders.items() if folders}
    train_names, test_names = choose_splits(split_names)
    if not train_names:
        _refuse_nested(root, subfolders)
        return None, None
    train = train_names[0]
    if len(train_names) > 1:
        raise UsageError(f"data: {root}: several folders may be the training split: {format_names(train_names)}")
    test = test_names[0] if test_names else None
    similar = [
        name
        for name in sorted(split_names)
        if name not in (*train_names, *test_names) and _overlap(subfolders[name], subfolders[train])
    ]
    if test is None and similar:
        raise UsageError(
            f"data: {root}: {similar[0]}/ holds the classes of {train}/ too: name it test/ if it is the test"
            " split, or move it away"
        )
    class_folders = [name for name in _folders(root) if name not in subfolders and parse_split_name(name) is None]
    if test is None and class_folders:
        raise UsageError(
            f"data: {root}: {format_names(class_folders)} contain images, but {train}/ beside them contains folders: "
            f"is {train} a class or the training split? Move one of them away"
        )
    chosen = f": {test}/ is the test split" if test else ""
    unused = [name for name in _folders(root) if name not in (train, test)]
    notes += [f"{name}/ is not used{chosen if name in (*train_names, *test_names) else ''}" for name in unused]
    return train, test


def _refuse_nested(root: Path, subfolders: dict[str, list[str]]) -> None:
    """Refuse folders that are not classes: a single one around the data, or several with the same subfolders."""
    names = _folders(root)
    if len(names) == 1 and len(subfolders.get(names[0], [])) > 0:
        folder = root / names[0]
        while len(_folders(folder)) == 1 and not _contains_images(folder):
            folder = folder / _folders(folder)[0]
        if len(_folders(folder)) > 1:
            raise UsageError(f"data: {root}: holds the one folder {names[0]}: did you mean {folder}?")
    inner = [set(map(normalise_name, folders)) for folders in subfolders.values()]
    if len(names) > 1 and len(subfolders) == len(names) and all(_overlap([*folders], [*inner[0]]) for folders in inner):
        shared = format_names(subfolders[names[0]])
        raise UsageError(
            f"data: {root}: {format_names(names)} all hold the folders {shared}: are these the classes? Name the "
            f"training split train and the test split test, or take {root / names[0]}"
        )


def _overlap(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists of folders have at least two names, and most of the shorter list, in common."""
    common = {normalise_name(name) for name in names} & {normalise_name(name) for name in others}
    return len(common) >= 2 and 2 * len(common) > min(len(names), len(others))


def _folders(root: Path) -> list[str]:
    return sorted(item.name for item in root.iterdir() if item.is_dir() and not item.name.startswith(HIDDEN))


def _contains_images(root: Path) -> bool:
    with os.scandir(root) as items:
        return any(
            Path(item.name).suffix.lower() in IMAGE_SUFFIXES and not item.name.startswith(HIDDEN) for item in items
        )


def _class_names(root: Path) -> list[str]:
    names = _folders(root)
    if not names:
        raise UsageError(f"data: {root}: holds no class folders")
    return names


def _list_split(folder: Path, names: Sequence[str], notes: list[str]) -> tuple[list[Path], list[str]]:
    """List the images in the class folders `names` of a split, and their classes; `notes` gets what is skipped."""
    paths: list[Path] = []
    labels: list[str] = []
    skipped_kinds: Counter[str] = Counter()
    merged: list[str] = []
    for name in names:
        images, skipped = list_images(folder / name)
        if not images:
            raise UsageError(f"data: {folder / name}: class folder without images")
        for path in images:
            check_utf8_name(path)
        paths += images
        labels += [normalise_name(name)] * len(images)
        skipped_kinds += skipped
        top_names = {path.relative_to(folder / name).parts[0] for path in images}
        merged += [name] if len(top_names & set(_folders(folder / name))) > 1 else []
    if merged:
        notes.append(f"in {folder}, each of {format_names(merged)} is one class, with all its subfolders")
    if skipped_kinds:
        kinds = [f"{count} {kind}" for kind, count in skipped_kinds.most_common()]
        text = ", ".join(kinds[:MAX_SHOWN]) + ", ..." * (len(kinds) > MAX_SHOWN)
        notes.append(f"passed over in {folder}: {text} (images are {', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths, labels


def list_images(root: Path) -> tuple[list[Path], Counter[str]]:
    """List the image files below a folder by their suffix, sorted, and count its other files by kind.

    Hidden files and folders, and files that operating systems add, are ignored.
    """
    images: list[Path] = []
    skipped_kinds: Counter[str] = Counter()
    for parent, folders, files in os.walk(root):
        linked = sum(os.path.islink(os.path.join(parent, folder)) for folder in folders)
        skipped_kinds.update({"linked folders": linked} if linked else {})
        folders[:] = [folder for folder in folders if not folder.startswith(HIDDEN)]
        for file in (Path(parent, file) for file in files if not file.startswith(HIDDEN)):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                images.append(file)
            else:
                skipped_kinds[file.suffix.lower() or "without a suffix"] += 1
    return sorted(images), skipped_kinds


def check_utf8_name(path: Path) -> None:
    """Refuse a file name that is not UTF-8, which tables cannot store."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"data: the file name {str(path)!r} is not UTF-8: rename it") from None
