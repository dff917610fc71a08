"""One picture from a file to 8 bits and three channels, of whatever kind and size, in bounded memory."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from easycoreset.depth import Encoded, common_white, declared_white, is_deep, largest_value

# What is opened as a picture; Pillow knows more kinds, for some of which it starts other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
LARGE = 2**24  # pixels above which a picture is shrunk as it is read, and read alone
COSTLY = 2**22  # pixels above which one that is not plain is read alone
PLAIN = ("L", "RGB")
ALPHA = ("LA", "PA", "RGBA")  # which are multiplied by their alpha to be averaged, in a second buffer
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
MOST_BYTES = 3 * 2**28  # that a picture may take while it is decoded; what is made of it comes on top
SQUARE = 4  # times the shorter side, to which a longer one is cut before anything else is done
WIDE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes that Pillow holds a pixel in
BUFFERS = {"WEBP": 3, "AVIF": 4}  # times that their decoders hold a picture
ORIENTATION = 0x0112  # of EXIF
STRIP = 2**20  # pixels that are brought to 8 bits and three channels at once


@functools.cache
def _known_formats() -> list[str]:
    """Those of `FORMATS` that this Pillow reads."""
    Image.init()  # their readers are loaded
    return [name for name in FORMATS if name in Image.OPEN]


@contextlib.contextmanager
def open_picture(file: Encoded) -> Iterator[Image.Image]:
    """Open a picture of one of the usual kinds, without Pillow's limit of pixels; nothing is decoded yet.

    Raises:
        Exception: almost any, where the file is broken or of another kind.
    """
    with own_limit(), Image.open(file, formats=_known_formats()) as image:
        yield image


def begins_as_picture(path: Path) -> bool:
    """Whether a file's first bytes are those of a usual kind of picture; much faster than opening it as one."""
    with open(path, "rb") as file:
        start = file.read(12)
    return start.startswith(BEGINNINGS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def decode(path: Encoded, size: int | None, white: int | None = None) -> np.ndarray:
    """Decode one picture to [size, size, 3] uint8: turned as its EXIF says, resized, centre cropped.

    With `size` None it keeps its own. A JPEG is decoded at a fraction of its size where that is twice `size` at least,
    which moves a pixel's value by a few of 255. Pictures of 16 bits are scaled to 8 by what their file says is white,
    else by `white` (65535 where it is None), floats in [0, 1] likewise; what is transparent is white; of animations the
    first picture is taken. At most 1 GiB is taken meanwhile.

    Raises:
        Exception: almost any, where the file is broken; a ValueError where it is too large.
    """
    with open_picture(path) as image:
        pixels = image.width * image.height
        white = (declared_white(image, path) if is_deep(image.mode) else None) or white or 65535
        if pixels <= LARGE:
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
            with _alone if pixels > COSTLY and image.mode not in PLAIN else contextlib.nullcontext():
                turned = to_rgb(image, white)
        else:
            with _alone:
                if size is None:
                    return _decode_large(image, white)
                turned = to_rgb(_shrink(image, size), white)
    return np.array(turned if size is None else ImageOps.fit(turned, (size, size), Image.Resampling.BILINEAR))


def find_white(files: Sequence[Encoded]) -> int | None:
    """The value that is white in the deep pictures whose files do not say it; None where there are none.

    Files that cannot be read are left to `decode`.
    """
    largest = -1.0
    for file in files:
        try:
            with open_picture(file) as image:
                if is_deep(image.mode) and declared_white(image, file) is None:
                    _load(image)
                    largest = max(largest, largest_value(image))
        except Exception:  # PIL raises almost anything on broken files
            continue
    return common_white(largest) if largest >= 0 else None


def to_rgb(image: Image.Image, white: int) -> Image.Image:
    """The picture in 8 bits and three channels, turned as its EXIF says; what is transparent is white."""
    image = ImageOps.exif_transpose(image)
    if image.mode != "F" and not is_deep(image.mode):
        return _opaque(image)
    values = _values(image)
    return Image.fromarray(_to_bytes(values, _highest(image.mode, float(values.max()), white))).convert("RGB")


def _opaque(image: Image.Image) -> Image.Image:
    """A picture of 8 bits in three channels, on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _values(image: Image.Image) -> np.ndarray:
    """The values of a deep picture.

    Raises:
        ValueError: they are not finite, or negative.
    """
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"pixels of mode {image.mode} must be finite and >= 0")
    return values


def _highest(mode: str, largest: float, white: int) -> int:
    """The value that is white; `white` is that of integers."""
    return white if mode != "F" else 255 if largest > 1 else 1


def _to_bytes(values: np.ndarray, highest: int) -> np.ndarray:
    return np.round(np.minimum(values / highest, 1) * 255).astype(np.uint8)


def _load(image: Image.Image, more: int = 0) -> None:
    """Decode a large picture, unless that takes too many bytes; `more` of them a pixel are taken for the result."""
    pixels = image.width * image.height
    taken = WIDE.get(image.mode, 4) * (2 if image.mode in ALPHA else 1) * BUFFERS.get(image.format or "", 1) + more
    if image.info.get("progressive"):  # such a JPEG is held whole in any case, three coefficients of two bytes a pixel
        taken += 6
    if pixels * taken > MOST_BYTES:
        raise ValueError(
            f"{image.width} x {image.height} pixels of {taken} bytes: at most {MOST_BYTES / 1e6:.0f} MB are decoded"
        )
    image.load()


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """A large picture at a whole fraction of its size, at least twice as large as `size`, without the ends of a strip.

    A JPEG is decoded so.
    """
    whole = image.width * image.height
    image.draft(None, (2 * size, 2 * size))
    drafted = whole // max(image.width * image.height, 1)
    _load(image, more=6 * (drafted - 1) if image.info.get("progressive") else 0)
    orientation = image.getexif()
    image = _cut(image)
    factor = min(image.size) // (2 * size)
    reduced = _reduce(image, factor) if factor >= 2 else image
    reduced.getexif().update(orientation)
    return reduced


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """A picture at a fraction of its size; what cannot be averaged as it is is converted strip by strip."""
    kinds = {"1": "L", "P": "RGBA" if "transparency" in image.info else "RGB"}
    mode = "I" if image.mode.startswith("I;16") else kinds.get(image.mode, image.mode)
    if mode == image.mode:
        return image.reduce(factor)
    width, height = image.size
    found = Image.new(mode, (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, STRIP // (width * factor))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))).convert(mode)
        found.paste(strip.reduce(factor), (0, top // factor))
    return found


def _cut(image: Image.Image) -> Image.Image:
    """The middle of a picture of which one side is much longer than the other; as much is cut from either end."""
    width, height = image.size
    short = min(width, height)
    left, top = ((side - min(side, SQUARE * short)) // 2 for side in (width, height))
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _decode_large(image: Image.Image, white: int) -> np.ndarray:
    """A large picture at its own size, [H,W,3] uint8, brought to 8 bits and three channels strip by strip."""
    _load(image, more=6)  # the result, and once more where it is turned
    width, height = image.size
    found = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // width)
    deep = image.mode == "F" or is_deep(image.mode)
    parts = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    highest = _highest(image.mode, _largest(image, parts), white) if deep else 255
    for top, bottom in parts:
        strip = image.crop((0, top, width, bottom))
        if deep:
            found[top:bottom] = _to_bytes(_values(strip), highest)[..., None]
        else:
            found[top:bottom] = np.asarray(_opaque(strip))
    return _turn(found, image.getexif().get(ORIENTATION, 1))


def _largest(image: Image.Image, parts: list[tuple[int, int]]) -> float:
    return max(float(_values(image.crop((0, top, image.width, bottom))).max()) for top, bottom in parts)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn [H,W,3] as an EXIF orientation says."""
    turns = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
    if orientation not in turns:
        return pixels
    count, mirrored = turns[orientation]
    turned = np.rot90(pixels, count)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def describe_read_error(error: Exception) -> str:
    """What is wrong with a picture, on one line."""
    unknown = isinstance(error, UnidentifiedImageError)  # which would name the file, or the object in memory
    return "not an image" if unknown else " ".join(str(error).split()) or type(error).__name__


_alone = threading.Lock()
_counting = threading.Lock()
_lifted: list[int | None] = []


@contextlib.contextmanager
def own_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which warns or raises wherever it is met; `MOST_BYTES` stands in its place."""
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
