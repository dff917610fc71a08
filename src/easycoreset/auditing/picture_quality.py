"""Pictures that are dark, bright, blurred, of one colour or of another size than the others."""

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.pictures import PictureFacts

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

DARK = 0.25  # luminance that a dark picture's brightest pixels do not exceed,
BRIGHT = 0.85  # and that a bright picture's darkest pixels exceed
ENTROPY = 3.0  # bits that a picture of low information does not exceed
DETAIL = 0.2  # of the median sharpness, which a blurred picture does not reach
UNUSUAL = 3.5  # robust standard deviations from the median of all pictures
SIZE_FACTOR = 3.0  # of the side length, from the median's
ASPECT_FACTOR = 2.5  # of the ratio of the sides, from the median's
MIN_PICTURES = 20  # from which on pictures are compared with the others


def find_quality_issues(facts: PictureFacts) -> dict[str, tuple[Floats, Flags]]:
    """Kind of issue -> ([N] score in [0, 1], the higher the worse; [N] whether the picture is named).

    Dark and bright pictures are named by their luminance. The other kinds are named only where they are also unusual
    among the pictures, by their distance from the median in median absolute deviations: of scans all are of low
    information, and of photographs from a phone none is small.
    """
    sharpness = np.log(np.maximum(facts.sharpness, 1e-6))
    area = np.log(facts.width * facts.height.astype(float)) / 2
    aspect = np.log(facts.width / facts.height)
    size_ratio = np.exp(-np.abs(area - np.median(area)))
    aspect_ratio = np.exp(-np.abs(aspect - np.median(aspect)))
    odd_size = (size_ratio < 1 / SIZE_FACTOR) & (np.abs(_deviation(area)) > UNUSUAL)
    odd_size |= (aspect_ratio < 1 / ASPECT_FACTOR) & (np.abs(_deviation(aspect)) > UNUSUAL)
    poor = facts.entropy < min(ENTROPY, float(np.median(facts.entropy)) / 2)
    poor &= _deviation(facts.entropy) < -UNUSUAL
    blurred = (sharpness < np.median(sharpness) + np.log(DETAIL)) & (_deviation(sharpness) < -UNUSUAL) & ~poor
    issues = {
        "dark": (1 - facts.brightest, facts.brightest < DARK),
        "bright": (facts.darkest, facts.darkest > BRIGHT),
        "low information": (1 - facts.entropy / 8, poor),
        "blurred": (1 / (1 + np.exp(sharpness - np.median(sharpness))), blurred),
        "odd size": (1 - np.minimum(size_ratio, aspect_ratio), odd_size),
    }
    return {name: (np.clip(score, 0, 1), named) for name, (score, named) in issues.items()}


def _deviation(values: Floats) -> Floats:
    """Robust standard deviations from the median: by the median absolute deviation; 0 of too few pictures.

    >>> _deviation(np.array([0.0, 1.0, 2.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    if len(values) < MIN_PICTURES:
        return np.zeros(len(values))
    distance = values - np.median(values)
    return distance / max(1.4826 * float(np.median(np.abs(distance))), 1e-6)
