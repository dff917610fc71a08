"""Blurs, whose widths are those for 32 pixels and grow with the image."""

import numpy as np
from scipy.ndimage import gaussian_filter

from easycoreset.corruptions import Floats

SIDE = 32  # pixels, of the images that the widths are for
GAUSSIAN_SIGMA = (0.4, 0.6, 0.7, 0.8, 1.0)
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius and sigma of the trail
MAX_ANGLE = 45.0  # degrees from the horizontal


def gaussian_blur(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Blurs in all directions: a picture out of focus."""
    sigma = GAUSSIAN_SIGMA[severity - 1] * image.shape[0] / SIDE
    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def motion_blur(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Blurs along a line, with weights that fall off to one side: a camera that moved."""
    scale = image.shape[0] / SIDE
    radius, sigma = (value * scale for value in MOTION[severity - 1])
    angle = np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    down, right = (np.round(steps * part).astype(int) for part in (np.sin(angle), np.cos(angle)))
    height, width = image.shape[:2]
    edge = len(steps)
    padded = np.pad(image, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    blurred = np.zeros_like(image)
    for weight, y, x in zip(weights / weights.sum(), down + edge, right + edge, strict=True):
        blurred += weight * padded[y : y + height, x : x + width]
    return blurred
