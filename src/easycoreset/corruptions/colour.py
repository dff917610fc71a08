"""Changes of light and colour; hue and saturation as in HSV, where the value is the largest channel."""

import numpy as np

from easycoreset.corruptions import Floats

ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
REMAINING = (0.75, 0.5, 0.4, 0.3, 0.15)  # share of the contrast
SATURATION = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # factor and summand
RED = np.array([1.0, 0.0, 0.0])  # the hue of grey


def brightness(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Adds to each pixel's HSV value and keeps its hue and saturation; with one channel, adds to the channel."""
    value = image.max(axis=2, keepdims=True)
    brighter = np.minimum(value + ADDED[severity - 1], 1)
    return np.where(value > 0, image * brighter / np.maximum(value, 1e-12), brighter)


def contrast(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Draws each channel towards its mean: fog, or a flat light."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * REMAINING[severity - 1] + mean


def saturate(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Changes the saturation: two severities make paler, three more colourful (grey turns red)."""
    factor, summand = SATURATION[severity - 1]
    value = image.max(axis=2, keepdims=True)
    chroma = value - image.min(axis=2, keepdims=True)
    saturation = chroma / np.maximum(value, 1e-12)
    wanted = np.clip(saturation * factor + summand, 0, 1)
    below = np.where(chroma > 0, (value - image) / np.maximum(chroma, 1e-12), 1 - RED)  # 0 for the largest channel
    return value * (1 - wanted * below)
