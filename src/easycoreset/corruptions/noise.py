"""Noise of sensors and of transmission."""

import numpy as np

from easycoreset.corruptions import Floats

DEVIATION = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)  # at full brightness
SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)  # of the values


def gaussian_noise(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Adds Gaussian noise to every value: a sensor in low light."""
    return image + rng.normal(scale=DEVIATION[severity - 1], size=image.shape)


def shot_noise(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Counts photons: Poisson noise."""
    photons = PHOTONS[severity - 1]
    return rng.poisson(image * photons) / photons


def impulse_noise(image: Floats, severity: int, rng: np.random.Generator) -> Floats:
    """Replaces a share of the values, separately in each channel, half by 1 and half by 0: bit errors."""
    draws = rng.random(image.shape)
    share = SHARE[severity - 1]
    return np.where(draws < share / 2, 0.0, np.where(draws < share, 1.0, image))
