"""The white value of images of more than 8 bits: declared in the file, else from the data set's largest value."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

EncodedImage = Path | BinaryIO
WHITE_VALUES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
MAX_SAMPLE_VALUE = 281  # TIFF tag
HEADER_BYTES = 2**16  # bytes of a PNG that are searched for its sBIT chunk


def is_16_bit(mode: str) -> bool:
    """Whether an image mode has integers of 16 bits."""
    return mode == "I" or mode.startswith("I;16")


def declared_white(image: Image.Image, file: EncodedImage) -> int | None:
    """The white value that an image's file declares; None where it declares none."""
    if image.format == "TIFF":
        tag = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
        value = max(tag) if isinstance(tag, tuple) and tag else tag
        return int(value) if isinstance(value, int) and 0 < value < 65535 else None
    if image.format == "PNG":
        bits = _significant_bits(_read_header(file))
        return 2**bits - 1 if bits is not None and 0 < bits < 16 else None
    return 65535 if image.format == "PPM" else None  # Pillow scales PPM to this maximum


def common_white(largest: float) -> int:
    """The white value of the fewest bits that hold a data set's largest value.

    >>> common_white(4000), common_white(200), common_white(65535)
    (4095, 255, 65535)
    """
    return next((white for white in WHITE_VALUES if largest <= white), WHITE_VALUES[-1])


def largest_value(image: Image.Image) -> float:
    """The largest value of an image; decodes it."""
    _, highest = image.getextrema()
    return float(np.max(highest))


def _read_header(file: EncodedImage) -> bytes:
    if isinstance(file, Path):
        with open(file, "rb") as stream:
            return stream.read(HEADER_BYTES)
    position = file.tell()
    file.seek(0)
    content = file.read(HEADER_BYTES)
    file.seek(position)
    return content


def _significant_bits(content: bytes) -> int | None:
    """The largest bit depth in a PNG's sBIT chunk, which comes before its pixels; None without one."""
    offset = 8
    while offset + 8 <= len(content):
        length = int.from_bytes(content[offset : offset + 4])
        chunk_type = content[offset + 4 : offset + 8]
        if chunk_type == b"sBIT" and 0 < length <= 4:
            return max(content[offset + 8 : offset + 8 + length], default=None)
        if chunk_type == b"IDAT":
            return None
        offset += 12 + length
    return None
