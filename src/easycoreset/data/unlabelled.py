"""Images in memory without labels, for predictions."""

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image

from easycoreset.data.arrays import check_arrays
from easycoreset.data.huggingface import EncodedImages, find_image_column, is_hf_dataset
from easycoreset.data.source import Source
from easycoreset.data.user_data import as_array, is_pair_of_arrays, read_images
from easycoreset.errors import UsageError
from easycoreset.python_objects import keep_object


@dataclass(frozen=True)
class UnlabelledImages:
    """Images.

    Attributes:
        pixels: [N,H,W,C], uint8 or float32 in [0,1].
        digest: of their content.
    """

    pixels: np.ndarray
    digest: str


def name_images(value: Any) -> str:
    """Keep images, and return the spelling that stands for them in options.

    Args:
        value: arrays or tensors of images, or a data set of images; both alone or with labels, which do not count.

    Raises:
        UsageError: it is none of these.
    """
    pixels = _read(value)
    pixels, _ = check_arrays("data", pixels, np.zeros(len(pixels)))
    state = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    for image in pixels:
        state.update(np.ascontiguousarray(image).data)
    digest = state.hexdigest()
    return keep_object("images", digest, UnlabelledImages(pixels, digest))


def _read(value: Any) -> np.ndarray:
    if getattr(value, "ndim", 0) in (3, 4):
        return as_array(value)
    if is_pair_of_arrays(value):
        return as_array(value[0])
    has_parts = isinstance(value, dict) or (isinstance(value, tuple) and len(cast("tuple[Any, ...]", value)) == 2)
    if isinstance(value, Source) or has_parts or hasattr(value, "to_csv"):
        raise UsageError(f"data must be images (arrays or a data set) or their folder; got {type(value).__name__}")
    if not is_hf_dataset(value):
        return read_images(value, "data")
    column = find_image_column("data", cast(Any, value).features)
    encoded = EncodedImages(value, column, np.arange(len(value)))
    images = [np.asarray(Image.open(encoded[row])) for row in range(len(encoded))]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise UsageError(f"data must have images of one shape; got {sorted(shapes)[:3]}")
    return np.stack(images)
