"""Which value is white in pictures of more than 8 bits: what their files say, else the data set's largest value."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

Encoded = Path | BinaryIO
WHITES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
MAX_SAMPLE_VALUE = 281  # a tag of TIFF
HEADER = 2**16  # bytes of a PNG in which it is looked for how many bits count


def is_deep(mode: str) -> bool:
    """Whether a picture's values are integers of 16 bits."""
    return mode == "I" or mode.startswith("I;16")


def declared_white(image: Image.Image, file: Encoded) -> int | None:
    """The value that a picture's file says is white; None where it says nothing."""
    if image.format == "TIFF":
        said = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE)
        value = max(said) if isinstance(said, tuple) and said else said
        return int(value) if isinstance(value, int) and 0 < value < 65535 else None
    if image.format == "PNG":
        bits = _significant_bits(_begin(file))
        return 2**bits - 1 if bits is not None and 0 < bits < 16 else None
    return 65535 if image.format == "PPM" else None  # whose own maximum Pillow has brought to that


def common_white(largest: float) -> int:
    """The white of the fewest bits that hold a data set's largest value.

    >>> common_white(4000), common_white(200), common_white(65535)
    (4095, 255, 65535)
    """
    return next((white for white in WHITES if largest <= white), WHITES[-1])


def largest_value(image: Image.Image) -> float:
    """The largest value of a picture, which is decoded for it."""
    _, highest = image.getextrema()
    return float(np.max(highest))


def _begin(file: Encoded) -> bytes:
    if isinstance(file, Path):
        with open(file, "rb") as opened:
            return opened.read(HEADER)
    place = file.tell()
    file.seek(0)
    content = file.read(HEADER)
    file.seek(place)
    return content


def _significant_bits(content: bytes) -> int | None:
    """What a PNG's sBIT chunk says, which stands before its pixels."""
    place = 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        kind = content[place + 4 : place + 8]
        if kind == b"sBIT" and 0 < length <= 4:
            return max(content[place + 8 : place + 8 + length], default=None)
        if kind == b"IDAT":
            return None
        place += 12 + length
    return None
