"""Arrays in an .npz file: x, y and, where there is one, a test part x_test, y_test."""

from pathlib import Path

import numpy as np

from easycoreset.arrays import read_npz
from easycoreset.data.images import channel_statistics, memory_split
from easycoreset.data.source import Source, number_classes
from easycoreset.errors import UsageError, quote
from easycoreset.tables.holdout import hold_out


def load_npz(path: Path) -> Source:
    """Open `x` uint8 [N,H,W] or [N,H,W,C] or float in [0,1], `y` integers [N]; pickled arrays are never loaded."""
    arrays = read_npz(path, ("x", "y", "x_test", "y_test"))
    x, y = _check(path, arrays, "x", "y")
    names = number_classes(y, str(path))
    notes: list[str] = []
    if "x_test" in arrays or "y_test" in arrays:
        parts = {"train": (x, y, "x"), "test": (*_check(path, arrays, "x_test", "y_test"), "x_test")}
        rows = {name: np.arange(len(part[1])) for name, part in parts.items()}
    else:
        parts = {"train": (x, y, "x"), "test": (x, y, "x")}
        rows = dict(zip(parts, hold_out(y), strict=True))
        notes.append(f"no test part: a seeded, stratified fifth ({len(rows['test'])} samples) is held out")
    splits = {
        name: memory_split(name, px[rows[name]], py[rows[name]], [f"{key}/{row}" for row in rows[name]])
        for name, (px, py, key) in parts.items()
    }
    if len({px.shape[1:] for px, _, _ in parts.values()}) > 1:
        raise UsageError(f"data: {path}: x and x_test must hold images of one shape")
    height, width, channels = x.shape[1:]
    return Source(str(path), splits, names, (channels, height, width), *channel_statistics(x), notes=notes)


def _check(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    for name in (x_name, y_name):
        if name not in arrays:
            raise UsageError(f"data: {path}: holds no array {quote(name)}")
    x, y = arrays[x_name], arrays[y_name]
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise UsageError(
            f"data: {path}: {x_name} must be [N,H,W] or [N,H,W,C] with C of 1 or 3; got {arrays[x_name].shape}"
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(f"data: {path}: {y_name} must be integers [N]; got {y.dtype} {y.shape}")
    if len(x) != len(y):
        raise UsageError(f"data: {path}: {x_name} and {y_name} must be of one length; got {len(x)} and {len(y)}")
    if not len(y):
        raise UsageError(f"data: {path}: {x_name} is empty")
    if y.min() < 0:
        raise UsageError(f"data: {path}: {y_name} must be >= 0; got {y.min()}")
    if x.dtype == np.uint8:
        return x, y
    if not np.issubdtype(x.dtype, np.floating):
        raise UsageError(f"data: {path}: {x_name} must be uint8, or float in [0, 1]; got {x.dtype}")
    wrong = np.flatnonzero(~((x >= 0) & (x <= 1)).all((1, 2, 3)))
    if len(wrong):
        raise UsageError(
            f"data: {path}: {x_name} must be finite and in [0, 1]; {len(wrong)} rows are not (first: {wrong[0]})"
        )
    return x.astype(np.float32), y
