"""Data sets of Python: what a user's `module:function` returns, or objects that are given in place of a name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from easycoreset.data.arrays import check_arrays, make_array_source
from easycoreset.data.huggingface import is_hf_dataset, open_hf
from easycoreset.data.images import as_bytes
from easycoreset.data.source import Reading, Source
from easycoreset.data.split_names import choose_splits
from easycoreset.errors import UsageError, quote, require
from easycoreset.members import load_attribute

ARRAY_PREFIXES = {"train": "x", "test": "x_test"}  # of sample ids, as in an .npz file


class Part(NamedTuple):
    """One split.

    Attributes:
        x: images [N,H,W,C], uint8 or float32 in [0,1].
        y: labels [N].
        prefix: prefix of the sample ids.
        names: the names of the classes 0, 1, ... where the data set has them.
    """

    x: np.ndarray
    y: np.ndarray
    prefix: str
    names: Sequence[str] = ()


def load_user_data(data: str, reading: Reading) -> Source:
    """Call `module:function`, or take the object that `data` stands for, and load the result into memory.

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
        if is_hf_dataset(result):
            return open_hf(data, result, reading)
        size = reading.image_size
        require(size is None, "image_size", f"left out for data {quote(data)}, whose images have a fixed size", size)
        parts = read_parts(result, data)
    except UsageError:
        raise
    except Exception as error:  # a user's function may raise anything
        message = " ".join(str(error).split())
        raise UsageError(f"data {quote(data)} cannot be read: {type(error).__name__}: {message}") from None
    arrays = {split: (part.x, part.y, part.prefix) for split, part in parts.items()}
    return make_array_source(data, arrays, reading.classes, parts["train"].names)


def read_parts(value: Any, data: str) -> dict[str, Part]:
    """Images and labels of the splits of a data set.

    Raises:
        UsageError: `value` is not a data set; the message says which objects are.
    """
    return {
        split: part if isinstance(part, Part) else _read(part, data, split) for split, part in _split(value).items()
    }


def _split(value: Any) -> dict[str, Any]:
    """The parts of a data set by split."""
    if isinstance(value, Mapping):
        by_name = cast("dict[str, Any]", value)
        train, test = choose_splits(map(str, by_name))
        if len(train) != 1:
            raise UsageError(f"data: a dictionary must hold one training split; got {quote(sorted(map(str, by_name)))}")
        return {"train": by_name[train[0]], **({"test": by_name[test[0]]} if test else {})}
    if not isinstance(value, tuple | list) or is_pair_of_arrays(value) or any(map(_is_item, value)):
        return {"train": value}
    if len(value) == 4:
        return {"train": value[:2], "test": value[2:]}
    if len(value) == 2:
        return {"train": value[0], "test": value[1]}
    return {"train": value}


def is_pair_of_arrays(value: Any) -> bool:
    """Whether a value is arrays (x, y)."""
    is_pair = isinstance(value, tuple | list) and len(cast("list[Any]", value)) == 2
    return is_pair and getattr(value[0], "ndim", 0) in (3, 4) and getattr(value[1], "ndim", 1) <= 2


def _is_item(value: Any) -> bool:
    """Whether a value is an item (image, label) of a data set that is a list."""
    is_pair = isinstance(value, tuple | list) and len(cast("list[Any]", value)) == 2
    return is_pair and getattr(value[1], "ndim", 0) == 0 and not hasattr(value[1], "__len__")


def _read(part: Any, data: str, split: str) -> Part:
    """Images and labels of one split."""
    what = f"data {quote(data)}"
    if is_pair_of_arrays(part):
        return Part(*check_arrays(what, as_array(part[0]), np.asarray(as_array(part[1]))), ARRAY_PREFIXES[split])
    x, y = _read_items(part, what)
    whole = part
    while isinstance(whole, torch.utils.data.Subset) and not hasattr(whole, "classes"):
        whole = whole.dataset
    names = getattr(whole, "classes", ())
    names = names if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()
    return Part(*check_arrays(what, x, y), split, tuple(names))


def _read_items(dataset: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The items (image, label) of a map-style data set, stacked.

    Raises:
        UsageError: as `read_images`, or its items are no pairs.
    """
    labels: list[Any] = []

    def image_of(row: int, item: Any) -> Any:
        if not isinstance(item, tuple | list) or len(cast("list[Any]", item)) < 2:
            raise UsageError(f"{what} must have items (image, label); item {row} is {type(item).__name__}")
        if row == len(labels):
            labels.append(item[1].item() if hasattr(item[1], "item") else item[1])
        return item[0]

    return read_images(dataset, what, image_of), np.array(labels)


def _first(row: int, item: Any) -> Any:
    """The image of an item, with or without a label."""
    return item[0] if isinstance(item, tuple | list) else item


def read_images(dataset: Any, what: str, image_of: Callable[[int, Any], Any] = _first) -> np.ndarray:
    """The images of a map-style data set, stacked; floats that are bytes divided by 255 become these bytes again.

    Args:
        dataset: the data set.
        what: what it is, for messages.
        image_of: gives the image of an item, called with its row and the item.

    Raises:
        UsageError: it has no length, is no map-style data set, or gives other images each time.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise UsageError(
            f"{what} must be a map-style data set (with __len__ and __getitem__), arrays (x, y), a pair of either, or "
            f"a dictionary of train and test; got {type(dataset).__name__}"
        )
    if not len(dataset):
        raise UsageError(f"{what} is empty")
    images: list[np.ndarray] = []
    for row in range(len(dataset)):
        image = as_array(image_of(row, dataset[row]))
        if images and image.shape != images[0].shape:
            raise UsageError(
                f"{what} must have images of one shape; item 0 is {images[0].shape}, item {row} {image.shape}: resize "
                "them in its transform"
            )
        images.append(as_bytes(image))
    few = range(min(8, len(dataset)))
    if not all(np.array_equal(images[row], as_bytes(as_array(image_of(row, dataset[row])))) for row in few):
        raise UsageError(
            f"{what} gives another image each time: leave random transforms out (augmentation is an option of training)"
        )
    kinds = {image.dtype for image in images}
    if len(kinds) > 1:  # an image of floats that are not all bytes
        images = [as_array(image_of(row, dataset[row])) for row in range(len(dataset))]
    return np.stack(images)


def as_array(image: Any) -> np.ndarray:
    """An array of numpy; a tensor's memory is shared where it is on the CPU."""
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
