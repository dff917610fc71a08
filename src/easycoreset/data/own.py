"""A user's own data set: a function of a module of theirs that gives arrays or map-style data sets."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from easycoreset.data.arrays import check_arrays, source_of_arrays
from easycoreset.data.parts import choose_parts
from easycoreset.data.source import Source
from easycoreset.errors import UsageError, quote
from easycoreset.members import load_attribute

Part = tuple[np.ndarray, np.ndarray]  # images [N,H,W,C], labels [N]


def load_own(data: str, classes: str | None = None) -> Source:
    """Call `module:function` and hold what it gives in memory.

    That is a map-style data set of (image, label), or arrays (x, y): x [N,H,W], [N,H,W,C] or [N,C,H,W], uint8 or float
    in [0,1]; a pair of either, for training and test; or a dictionary of them by "train" and "test".

    Raises:
        UsageError: it cannot be imported or called, or gives something else.
    """
    load = load_attribute("data", data)
    try:
        given = load() if callable(load) else load
        if isinstance(given, Source):
            return given
        parts = {split: _read(part, data) for split, part in _parts(given).items()}
    except UsageError:
        raise
    except Exception as error:  # a user's own function may raise anything
        said = " ".join(str(error).split())
        raise UsageError(f"data {quote(data)} cannot be read: {type(error).__name__}: {said}") from None
    return source_of_arrays(data, {split: (*part, split) for split, part in parts.items()}, classes)


def _parts(given: Any) -> dict[str, Any]:
    """What was given, by split."""
    if isinstance(given, Mapping):
        held = cast("dict[str, Any]", given)
        train, test = choose_parts(map(str, held))
        if len(train) != 1:
            raise UsageError(f"data: a dictionary must hold one training part; got {quote(sorted(map(str, held)))}")
        return {"train": held[train[0]], **({"test": held[test[0]]} if test else {})}
    if not isinstance(given, tuple | list) or _is_arrays(given):
        return {"train": given}
    if len(given) == 4:
        return {"train": given[:2], "test": given[2:]}
    if len(given) == 2:
        return {"train": given[0], "test": given[1]}
    return {"train": given}


def _is_arrays(given: Any) -> bool:
    """Whether it is (x, y)."""
    return len(given) == 2 and getattr(given[0], "ndim", 0) in (3, 4) and getattr(given[1], "ndim", 1) <= 2


def _read(part: Any, data: str) -> Part:
    """Images and labels of one split."""
    if isinstance(part, tuple | list) and len(part) == 2 and _is_arrays(part):
        return check_arrays(f"data {quote(data)}", _array(part[0]), np.asarray(_array(part[1])))
    pairs = [part[place] for place in range(len(part))]
    labels = np.array([pair[1].item() if hasattr(pair[1], "item") else pair[1] for pair in pairs])
    return check_arrays(f"data {quote(data)}", np.stack([_array(pair[0]) for pair in pairs]), labels)


def _array(image: Any) -> np.ndarray:
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
