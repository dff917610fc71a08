"""One picture from a file to 8 bits and three channels, of whatever kind and size, in bounded memory."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Encoded = Path | BinaryIO
LARGE = 2**24  # pixels above which a picture is shrunk as it is read, and read alone
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
MOST_PIXELS = 2**28  # that are decoded at once: about 1 GiB


def begins_as_picture(path: Path) -> bool:
    """Whether a file's first bytes are those of a usual kind of picture; much faster than opening it as one."""
    with open(path, "rb") as file:
        start = file.read(12)
    return start.startswith(BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def decode(path: Encoded, size: int | None) -> np.ndarray:
    """Decode one picture to [size, size, 3] uint8: turned as its EXIF says, resized, centre cropped.

    With `size` None it keeps its own. A JPEG is decoded at a fraction of its size where that is twice `size` at least,
    which moves a pixel's value by a few of 255. Pictures of 16 bits are scaled to 8, floats in [0, 1] likewise;
    what is transparent is white; of animations the first picture is taken.

    Raises:
        Exception: almost any, where the file is broken; a ValueError where it is too large.
    """
    with own_limit(), Image.open(path) as image:
        if image.width * image.height <= LARGE:
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
            turned = to_rgb(image)
        else:
            with _alone:
                turned = to_rgb(_shrink(image, size))
    return np.array(turned if size is None else ImageOps.fit(turned, (size, size), Image.Resampling.BILINEAR))


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8 bits and three channels, turned as its EXIF says; what is transparent is white."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"pixels of mode {image.mode} must be finite and >= 0")
    highest = 65535 if image.mode != "F" else 255 if values.max() > 1 else 1
    return Image.fromarray(np.round(np.minimum(values / highest, 1) * 255).astype(np.uint8)).convert("RGB")


def _shrink(image: Image.Image, size: int | None) -> Image.Image:
    """A large picture at a whole fraction of its size, at least twice as large as `size`; a JPEG is decoded so."""
    width, height = image.size
    held = width * height if image.info.get("progressive") else 0  # such a JPEG is held whole in any case
    if size is not None:
        image.draft(None, (2 * size, 2 * size))
    if max(held, image.width * image.height) > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels: at most {MOST_PIXELS / 1e6:.0f} million are decoded")
    image.load()
    factor = 1 if size is None else min(image.size) // (2 * size)
    if factor < 2:
        return image
    if image.mode in ("1", "P") or image.mode.startswith("I;16"):  # which cannot be averaged as they are
        kinds = {"1": "L", "P": "RGBA" if "transparency" in image.info else "RGB"}
        image = image.convert(kinds.get(image.mode, "I"))
    return image.reduce(factor)


def say_broken(error: Exception) -> str:
    """What is wrong with a picture, on one line."""
    unknown = isinstance(error, UnidentifiedImageError)  # which would name the file, or the object in memory
    return "not an image" if unknown else " ".join(str(error).split()) or type(error).__name__


_alone, _counting = threading.Lock(), threading.Lock()
_lifted: list[int | None] = []


@contextlib.contextmanager
def own_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which warns or raises wherever it is met; `MOST_PIXELS` stands in its place."""
    with _counting:
        _lifted.append(Image.MAX_IMAGE_PIXELS if not _lifted else _lifted[0])
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _counting:
            before = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = before
