"""Decode an image file of any usual format and size to 8 bits and three channels, in bounded memory."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from easycoreset.white_values import EncodedImage, common_white, declared_white, is_16_bit, largest_value

# The accepted image formats; Pillow has more, for some of which it starts other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
LARGE_PIXELS = 2**24  # pixels above which images are decoded one at a time, and shrunk during decoding
COSTLY_PIXELS = 2**22  # pixels above which an image whose mode is not in PLAIN_MODES is decoded one at a time
PLAIN_MODES = ("L", "RGB")
ALPHA_MODES = (
    "LA",
    "PA",
    "RGBA",
)  # modes that need a second buffer for averaging, with the colours multiplied by alpha
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
MAX_BYTES = 3 * 2**28  # bytes that decoding one image may take, without the result
MAX_ASPECT = 4  # the longer side is cropped to this multiple of the shorter side first
BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # in Pillow; others take 4
DECODER_COPIES = {"WEBP": 3, "AVIF": 4}  # copies of the image that the decoder holds in memory
ORIENTATION = 0x0112  # EXIF tag
STRIP_PIXELS = 2**20  # pixels that are converted to 8 bits and three channels at once


@functools.cache
def _known_formats() -> list[str]:
    """The `FORMATS` that the installed Pillow can read."""
    Image.init()  # loads the format plugins
    return [name for name in FORMATS if name in Image.OPEN]


@contextlib.contextmanager
def open_image(file: EncodedImage) -> Iterator[Image.Image]:
    """Open an image of one of the `FORMATS`, without Pillow's pixel limit; nothing is decoded yet.

    Raises:
        Exception: of almost any type, if the file is damaged or has another format.
    """
    with lift_pixel_limit(), Image.open(file, formats=_known_formats()) as image:
        yield image


def has_image_signature(path: Path) -> bool:
    """Whether a file begins with the signature of a usual image format; much faster than opening it."""
    with open(path, "rb") as file:
        start = file.read(12)
    return start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def decode_image(path: EncodedImage, size: int | None, white: int | None = None) -> np.ndarray:
    """Decode one image to [size, size, 3] uint8: rotated by its EXIF orientation, resized, centre cropped.

    With `size` None the image keeps its size. A JPEG is decoded at a reduced size if that is still at least twice
    `size`; this changes 8-bit pixel values by a few units. 16-bit images are scaled to 8 bits by the white value in
    their file, or else by `white` (65535 if it is None); floats in [0, 1] are scaled too. Transparent pixels become
    white, and the first frame of an animation is decoded. Decoding takes at most 1 GiB.

    Raises:
        Exception: of almost any type, if the file is damaged; a ValueError if it is too large.
    """
    if size is not None:
        return np.array(ImageOps.fit(_decode(path, size, white), (size, size), Image.Resampling.BILINEAR))
    with open_image(path) as image:
        if image.width * image.height > LARGE_PIXELS:
            with _large_lock:
                return _decode_large(image, _white_in(image, path, white))
    return np.array(_decode(path, None, white))


def decode_reduced(path: EncodedImage, side: int, white: int | None = None) -> Image.Image:
    """Decode as `decode_image` does, but do not crop: the shorter side is reduced to at most `side` pixels."""
    rgb = _decode(path, side, white)
    scale = side / min(rgb.size)
    if scale >= 1:
        return rgb
    width, height = (max(1, round(length * scale)) for length in rgb.size)
    return rgb.resize((width, height), Image.Resampling.BOX)


def read_size(path: EncodedImage) -> tuple[int, int]:
    """Width and height of an image, rotated by its EXIF orientation, from its header alone."""
    with open_image(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)


def _white_in(image: Image.Image, path: EncodedImage, white: int | None) -> int:
    """The white value of an image of 16 bits: that of its file, or else the given one."""
    return (declared_white(image, path) if is_16_bit(image.mode) else None) or white or 65535


def _decode(path: EncodedImage, size: int | None, white: int | None) -> Image.Image:
    """An image in RGB, rotated; with `size` it may be reduced, to at least twice that on its shorter side."""
    with open_image(path) as image:
        white = _white_in(image, path, white)
        pixels = image.width * image.height
        if pixels > LARGE_PIXELS and size is not None:
            with _large_lock:
                return to_rgb(_shrink(image, size), white)
        if size is not None:
            image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
        with _large_lock if pixels > COSTLY_PIXELS and image.mode not in PLAIN_MODES else contextlib.nullcontext():
            return to_rgb(image, white)


def find_white_value(files: Sequence[EncodedImage]) -> int | None:
    """Find the white value of the 16-bit images whose files do not declare it; None where there are no such images.

    Unreadable files are skipped: `decode_image` reports them.
    """
    largest = -1.0
    for file in files:
        try:
            with open_image(file) as image:
                if is_16_bit(image.mode) and declared_white(image, file) is None:
                    _load_bounded(image)
                    largest = max(largest, largest_value(image))
        except Exception:  # PIL raises almost anything on damaged files
            continue
    return common_white(largest) if largest >= 0 else None


def to_rgb(image: Image.Image, white: int) -> Image.Image:
    """Convert an image to 8 bits and three channels, rotated by its EXIF orientation, on white where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode != "F" and not is_16_bit(image.mode):
        return _flatten_alpha(image)
    values = _high_depth_values(image)
    return Image.fromarray(_to_bytes(values, _white_value(image.mode, float(values.max()), white))).convert("RGB")


def _flatten_alpha(image: Image.Image) -> Image.Image:
    """Convert an image of 8 bits to three channels, on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _high_depth_values(image: Image.Image) -> np.ndarray:
    """The values of an image of 16-bit integers or floats.

    Raises:
        ValueError: a value is not finite or is negative.
    """
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"pixels of mode {image.mode} must be finite and >= 0")
    return values


def _white_value(mode: str, largest: float, white: int) -> int:
    """The value of a white pixel: `white` for integers; for floats 1, or 255 if the largest value exceeds 1."""
    return white if mode != "F" else 255 if largest > 1 else 1


def _to_bytes(values: np.ndarray, white_value: int) -> np.ndarray:
    return np.round(np.minimum(values / white_value, 1) * 255).astype(np.uint8)


def _load_bounded(image: Image.Image, extra: int = 0) -> None:
    """Decode a large image, unless that takes too many bytes; the result takes `extra` bytes per pixel."""
    pixels = image.width * image.height
    buffers = (2 if image.mode in ALPHA_MODES else 1) * DECODER_COPIES.get(image.format or "", 1)
    bytes_per_pixel = BYTES_PER_PIXEL.get(image.mode, 4) * buffers + extra
    if image.info.get("progressive"):  # the decoder holds all coefficients: per pixel three, of two bytes each
        bytes_per_pixel += 6
    if pixels * bytes_per_pixel > MAX_BYTES:
        raise ValueError(
            f"{image.width} x {image.height} pixels of {bytes_per_pixel} bytes: at most {MAX_BYTES / 1e6:.0f} MB "
            "are decoded"
        )
    image.load()


def _shrink(image: Image.Image, size: int) -> Image.Image:
    """Shrink a large image by a whole factor, to at least twice `size`; a long image loses both ends.

    A JPEG is decoded at the smaller size.
    """
    full_pixels = image.width * image.height
    image.draft(None, (2 * size, 2 * size))
    draft_factor = full_pixels // max(image.width * image.height, 1)
    _load_bounded(image, extra=6 * (draft_factor - 1) if image.info.get("progressive") else 0)
    exif = image.getexif()
    image = _crop_long_side(image)
    factor = min(image.size) // (2 * size)
    reduced = _reduce(image, factor) if factor >= 2 else image
    reduced.getexif().update(exif)
    return reduced


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Shrink an image by a factor; a mode that cannot be averaged is converted strip by strip."""
    averaged_modes = {"1": "L", "P": "RGBA" if "transparency" in image.info else "RGB"}
    mode = "I" if image.mode.startswith("I;16") else averaged_modes.get(image.mode, image.mode)
    if mode == image.mode:
        return image.reduce(factor)
    width, height = image.size
    reduced = Image.new(mode, (-(-width // factor), -(-height // factor)))
    strip_height = factor * max(1, STRIP_PIXELS // (width * factor))
    for top in range(0, height, strip_height):
        strip = image.crop((0, top, width, min(top + strip_height, height))).convert(mode)
        reduced.paste(strip.reduce(factor), (0, top // factor))
    return reduced


def _crop_long_side(image: Image.Image) -> Image.Image:
    """Crop the ends of an image that is much longer on one side, around its centre."""
    width, height = image.size
    short = min(width, height)
    left, top = ((side - min(side, MAX_ASPECT * short)) // 2 for side in (width, height))
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _decode_large(image: Image.Image, white: int) -> np.ndarray:
    """Decode a large image at its full size to [H,W,3] uint8, strip by strip."""
    _load_bounded(image, extra=6)  # the result, and a copy of it if it is rotated
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    strip_height = max(1, STRIP_PIXELS // width)
    is_high_depth = image.mode == "F" or is_16_bit(image.mode)
    strips = [(top, min(top + strip_height, height)) for top in range(0, height, strip_height)]
    white_value = _white_value(image.mode, _largest_value_in_strips(image, strips), white) if is_high_depth else 255
    for top, bottom in strips:
        strip = image.crop((0, top, width, bottom))
        if is_high_depth:
            pixels[top:bottom] = _to_bytes(_high_depth_values(strip), white_value)[..., None]
        else:
            pixels[top:bottom] = np.asarray(_flatten_alpha(strip))
    return _orient(pixels, image.getexif().get(ORIENTATION, 1))


def _largest_value_in_strips(image: Image.Image, strips: list[tuple[int, int]]) -> float:
    return max(float(_high_depth_values(image.crop((0, top, image.width, bottom))).max()) for top, bottom in strips)


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror [H,W,3] by an EXIF orientation."""
    transforms = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
    if orientation not in transforms:
        return pixels
    quarter_turns, mirrored = transforms[orientation]
    rotated = np.rot90(pixels, quarter_turns)
    return np.ascontiguousarray(rotated[:, ::-1] if mirrored else rotated)


def describe_read_error(error: Exception) -> str:
    """Describe why an image is unreadable, on one line."""
    is_unidentified = isinstance(error, UnidentifiedImageError)  # its text would name the file or the object in memory
    return "not an image" if is_unidentified else " ".join(str(error).split()) or type(error).__name__


_large_lock = threading.Lock()
_limit_lock = threading.Lock()
_saved_limits: list[int | None] = []  # the first limit, once per call of `lift_pixel_limit` that is active


@contextlib.contextmanager
def lift_pixel_limit() -> Iterator[None]:
    """Lift Pillow's pixel limit, which warns or raises; `MAX_BYTES` is the limit instead."""
    with _limit_lock:
        _saved_limits.append(Image.MAX_IMAGE_PIXELS if not _saved_limits else _saved_limits[0])
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _limit_lock:
            previous = _saved_limits.pop()
            if not _saved_limits:
                Image.MAX_IMAGE_PIXELS = previous
