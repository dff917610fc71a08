"""A user-defined data set: a function `module:function` that returns arrays or map-style data sets."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from easycoreset.data.arrays import check_arrays, make_array_source
from easycoreset.data.source import Reading, Source
from easycoreset.data.split_names import choose_splits
from easycoreset.errors import UsageError, quote
from easycoreset.members import load_attribute

Part = tuple[np.ndarray, np.ndarray]  # images [N,H,W,C], labels [N]


def load_user_data(data: str, reading: Reading) -> Source:
    """Call `module:function` and load its result into memory.

    The result is a map-style data set of (image, label), or arrays (x, y): x [N,H,W], [N,H,W,C] or [N,C,H,W], uint8 or
    float in [0,1]; a pair of either, for training and test; or a dictionary of them with keys "train" and "test".

    Raises:
        UsageError: the function cannot be imported or called, or returns something else.
    """
    load = load_attribute("data", data)
    try:
        result = load() if callable(load) else load
        if isinstance(result, Source):
            return result
        parts = {split: _read(part, data) for split, part in _parts(result).items()}
    except UsageError:
        raise
    except Exception as error:  # a user's function may raise anything
        message = " ".join(str(error).split())
        raise UsageError(f"data {quote(data)} cannot be read: {type(error).__name__}: {message}") from None
    return make_array_source(data, {split: (*part, split) for split, part in parts.items()}, reading.classes)


def _parts(result: Any) -> dict[str, Any]:
    """The function's result by split."""
    if isinstance(result, Mapping):
        by_name = cast("dict[str, Any]", result)
        train, test = choose_splits(map(str, by_name))
        if len(train) != 1:
            raise UsageError(f"data: a dictionary must hold one training split; got {quote(sorted(map(str, by_name)))}")
        return {"train": by_name[train[0]], **({"test": by_name[test[0]]} if test else {})}
    if not isinstance(result, tuple | list) or _is_arrays(result):
        return {"train": result}
    if len(result) == 4:
        return {"train": result[:2], "test": result[2:]}
    if len(result) == 2:
        return {"train": result[0], "test": result[1]}
    return {"train": result}


def _is_arrays(value: Any) -> bool:
    """Whether a pair is arrays (x, y)."""
    return len(value) == 2 and getattr(value[0], "ndim", 0) in (3, 4) and getattr(value[1], "ndim", 1) <= 2


def _read(part: Any, data: str) -> Part:
    """Images and labels of one split."""
    if isinstance(part, tuple | list) and len(part) == 2 and _is_arrays(part):
        return check_arrays(f"data {quote(data)}", _array(part[0]), np.asarray(_array(part[1])))
    pairs = [part[row] for row in range(len(part))]
    labels = np.array([pair[1].item() if hasattr(pair[1], "item") else pair[1] for pair in pairs])
    return check_arrays(f"data {quote(data)}", np.stack([_array(pair[0]) for pair in pairs]), labels)


def _array(image: Any) -> np.ndarray:
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
