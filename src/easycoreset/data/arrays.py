"""Arrays in an .npz file: images, labels and an optional test split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from easycoreset.arrays import list_npz, read_npz
from easycoreset.data.classes import number_classes
from easycoreset.data.images import CHUNK, channel_statistics, memory_split, to_tensor
from easycoreset.data.source import HELD_OUT, Ints, Reading, Source, Split
from easycoreset.errors import UsageError, quote, shorten
from easycoreset.tables.holdout import hold_out

Part = tuple[np.ndarray, np.ndarray, str]  # images, labels, prefix of the sample ids
ARRAY_NAMES = (  # names of the arrays: training images and labels, test images and labels
    ("x", "y", "x_test", "y_test"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
    ("images", "labels", "test_images", "test_labels"),
)


def load_npz(location: str, reading: Reading) -> Source:
    """Open images uint8 [N,H,W] or [N,H,W,C] or float in [0,1], and labels [N]; pickled arrays are never loaded.

    The arrays are named x and y (x_test, y_test), or as in `ARRAY_NAMES`.
    """
    path = Path(location)
    array_names = list_npz(path)
    names = next((names for names in ARRAY_NAMES if set(names[:2]) <= set(array_names)), None)
    if names is None:
        raise UsageError(
            f"data: {path}: holds no arrays 'x' and 'y' (nor x_train and y_train, train_images and "
            f"train_labels); it holds {shorten(', '.join(array_names)) or 'nothing'}"
        )
    arrays = read_npz(path, names)
    parts: dict[str, Part] = {"train": (*_check(path, arrays, *names[:2]), names[0])}
    if set(names[2:]) & set(arrays):
        parts["test"] = (*_check(path, arrays, *names[2:]), names[2])
    source = make_array_source(str(path), parts, reading.classes)
    unused = [name for name in array_names if name in ("val_images", "x_val", "x_valid") and "test" in parts]
    return replace(
        source, notes=[*source.notes, *(f"{name} is not used: {names[2]} is the test split" for name in unused)]
    )


def make_array_source(
    what: str, parts: dict[str, Part], classes: str | None, known_names: Sequence[str] = ()
) -> Source:
    """Make an in-memory data set of images [N,H,W,C], labels [N] and a prefix of the sample ids for each split.

    Without a test split, a seeded, stratified fifth of the samples is held out.

    Raises:
        UsageError: invalid labels, or images of several shapes.
    """
    names, labels, notes = number_classes(
        {split: part[1] for split, part in parts.items()}, what, classes, known_names=known_names
    )
    rows: dict[str, Ints] = {split: np.arange(len(part[1])) for split, part in parts.items()}
    if "test" not in parts:
        prefix = parts["train"][2]
        parts = parts | {"test": parts["train"]}
        labels = labels | {"test": labels["train"]}
        rows["train"], rows["test"] = hold_out(labels["train"])
        last = rows["train"][-1]
        notes.append(
            f"no test split: a seeded, stratified fifth ({len(rows['test'])} samples) {HELD_OUT}; indices count "
            f"the other samples, and sample ids give the rows of the array ({prefix}/{last} is row {last})"
        )
    shapes = {x.shape[1:] for x, _, _ in parts.values()}
    if len(shapes) > 1:
        raise UsageError(f"data: {what}: training and test split must have images of one shape; got {sorted(shapes)}")
    splits: dict[str, Split] = {}
    tensors = {id(x): to_tensor(x) for x in {id(x): x for x, _, _ in parts.values()}.values()}
    for split, (x, _, prefix) in parts.items():
        chosen = rows[split]
        ids = [f"{prefix}/{row}" for row in chosen]
        splits[split] = memory_split(
            split, tensors[id(x)], labels[split][chosen], ids, None if len(chosen) == len(x) else chosen
        )
    x = parts["train"][0]
    height, width, channels = x.shape[1:]
    return Source(what, splits, names, (channels, height, width), *channel_statistics(x), notes=notes)


def _check(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    for name in (x_name, y_name):
        if name not in arrays:
            raise UsageError(f"data: {path}: holds no array {quote(name)}")
    return check_arrays(f"data: {path}", arrays[x_name], arrays[y_name], x_name, y_name)


def check_arrays(
    what: str, x: np.ndarray, y: np.ndarray, x_name: str = "x", y_name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Bring arrays of the usual layouts to images [N,H,W,C], uint8 or float32 in [0,1], and labels [N].

    Args:
        what: name of the data set, for messages.
        x: [N,H,W], [N,H,W,C] or, if unambiguous, [N,C,H,W], with C of 1 or 3; uint8 or float in [0,1].
        y: [N] or [N,1].
        x_name: name of the image array.
        y_name: name of the label array.

    Raises:
        UsageError: other shapes, lengths or values.
    """
    shape = x.shape
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim == 4 and x.shape[-1] not in (1, 3) and x.shape[1] in (1, 3):
        x = x.transpose(0, 2, 3, 1)
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise UsageError(f"{what}: {x_name} must be [N,H,W] or [N,H,W,C] with C of 1 or 3; got {shape}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise UsageError(f"{what}: {y_name} must be labels [N]; got {y.dtype} {y.shape}")
    if len(x) != len(y):
        raise UsageError(f"{what}: {x_name} and {y_name} must have the same length; got {len(x)} and {len(y)}")
    if not len(y):
        raise UsageError(f"{what}: {x_name} is empty")
    if x.dtype == np.uint8:
        return x, y
    if not np.issubdtype(x.dtype, np.floating):
        raise UsageError(f"{what}: {x_name} must be uint8, or float in [0, 1]; got {x.dtype}")
    chunks = (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))  # masks of all would be large
    invalid = np.flatnonzero(~np.concatenate([((part >= 0) & (part <= 1)).all((1, 2, 3)) for part in chunks]))
    if len(invalid):
        raise UsageError(
            f"{what}: {x_name} must be finite and in [0, 1]; {len(invalid)} rows are not (first: {invalid[0]})"
            f"{_explain_range(x)}"
        )
    return x.astype(np.float32, copy=False), y


def _explain_range(x: np.ndarray) -> str:
    """What images outside of [0, 1] probably are, and what to do."""
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if low >= 0 and 2 < high <= 255:
        return ": they are in 0..255, divide them by 255"
    if -3 <= low < 0 < high <= 3:
        return (
            f": they lie in [{low:.3g}, {high:.3g}], so they seem to be normalised: give them without normalisation "
            "(built-in models normalise their input; for other weights that expect normalised input, use input_mean "
            "and input_std of evaluate and score)"
        )
    return ""
