"""What happens to an image that is stored in little space."""

import io

import numpy as np
from PIL import Image

from easycoreset.corruptions import Floats

SHARE = (0.95, 0.9, 0.85, 0.75, 0.65)  # share of the side length that is left
QUALITY = (80, 65, 58, 50, 40)


def pixelate(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Makes the image smaller, then enlarges it to its old size."""
    height, width = image.shape[:2]
    small = (int(width * SHARE[severity - 1]), int(height * SHARE[severity - 1]))
    box = Image.Resampling.BOX
    return _to_array(_to_picture(image).resize(small, box).resize((width, height), box), image.shape)


def jpeg_compression(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Stores the image as JPEG of a low quality."""
    buffer = io.BytesIO()
    _to_picture(image).save(buffer, "JPEG", quality=QUALITY[severity - 1])
    return _to_array(Image.open(buffer), image.shape)


def _to_picture(image: Floats) -> Image.Image:
    pixels = np.round(image * 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if image.shape[2] == 1 else pixels)


def _to_array(picture: Image.Image, shape: tuple[int, ...]) -> Floats:
    return np.asarray(picture, np.float64).reshape(shape) / 255
