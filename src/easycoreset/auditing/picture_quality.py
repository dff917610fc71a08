"""Pictures that are dark, bright, blurred, of one colour or of another size than the others."""

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.pictures import PictureFacts

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

DARK = 0.25  # a picture is dark if its brightest pixels have a lower luminance
BRIGHT = 0.85  # a picture is bright if its darkest pixels have a higher luminance
ENTROPY = 3.0  # a picture of low information has fewer bits
MIN_SHARPNESS_SHARE = 0.2  # a blurred picture has less than this share of the median sharpness
UNUSUAL_DEVIATION = 3.5  # robust standard deviations from the median of all pictures
SIZE_FACTOR = 3.0  # a picture of odd size differs by this factor from the median side length
ASPECT_FACTOR = 2.5  # or by this factor from the median aspect ratio
MIN_PICTURES = 20  # fewer pictures are not compared with each other


def find_quality_issues(facts: PictureFacts) -> dict[str, tuple[Floats, Flags]]:
    """Kind of issue -> ([N] score in [0, 1], the higher the worse; [N] whether the picture is named).

    Dark and bright pictures are named by their luminance. The other kinds are named only if they are also unusual among
    the pictures, by their distance from the median in median absolute deviations. The reason is that all scans have low
    information, for example, and that no photograph from a phone is small.
    """
    sharpness = np.log(np.maximum(facts.sharpness, 1e-6))
    area = np.log(facts.width * facts.height.astype(float)) / 2
    aspect = np.log(facts.width / facts.height)
    size_ratio = np.exp(-np.abs(area - np.median(area)))
    aspect_ratio = np.exp(-np.abs(aspect - np.median(aspect)))
    odd_size = (size_ratio < 1 / SIZE_FACTOR) & (np.abs(_deviation(area)) > UNUSUAL_DEVIATION)
    odd_size |= (aspect_ratio < 1 / ASPECT_FACTOR) & (np.abs(_deviation(aspect)) > UNUSUAL_DEVIATION)
    poor = facts.entropy < min(ENTROPY, float(np.median(facts.entropy)) / 2)
    poor &= _deviation(facts.entropy) < -UNUSUAL_DEVIATION
    blurred = (
        (sharpness < np.median(sharpness) + np.log(MIN_SHARPNESS_SHARE))
        & (_deviation(sharpness) < -UNUSUAL_DEVIATION)
        & ~poor
    )
    issues = {
        "dark": (1 - facts.brightest, facts.brightest < DARK),
        "bright": (facts.darkest, facts.darkest > BRIGHT),
        "low information": (1 - facts.entropy / 8, poor),
        "blurred": (1 / (1 + np.exp(sharpness - np.median(sharpness))), blurred),
        "odd size": (1 - np.minimum(size_ratio, aspect_ratio), odd_size),
    }
    return {name: (np.clip(score, 0, 1), named) for name, (score, named) in issues.items()}


def _deviation(values: Floats) -> Floats:
    """Robust standard deviations from the median: by the median absolute deviation; 0 if there are too few pictures.

    >>> _deviation(np.array([0.0, 1.0, 2.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    if len(values) < MIN_PICTURES:
        return np.zeros(len(values))
    distance = values - np.median(values)
    return distance / max(1.4826 * float(np.median(np.abs(distance))), 1e-6)
