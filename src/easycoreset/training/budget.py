"""Defaults for the size of images, the batch size and the budget of a training, by the data and the machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from easycoreset.console import log
from easycoreset.data.folder import list_images
from easycoreset.data.manifest import list_manifest
from easycoreset.image_decoding import open_image

SIDES = (32, 64, 96, 128, 160, 224)  # candidate image sizes, in pixels
MAX_SIDE = {"cpu": 64, "mps": 128, "cuda": 224}  # in pixels
UPDATES = {"cpu": 1000, "mps": 2000, "cuda": 4000}  # target number of updates of a training run
EPOCHS = (5, 60)  # minimum and maximum
SIZE_SAMPLES = 200  # images whose size is read


def choose_batch(samples: int) -> int:
    """The batch size: 128, or less if an epoch would have few steps.

    >>> choose_batch(50_000), choose_batch(800), choose_batch(50)
    (128, 32, 8)
    """
    return int(np.clip(2 ** int(np.log2(max(samples // 24, 1))), 8, 128))


def choose_epochs(samples: int, batch_size: int, device_type: str) -> int:
    """The number of epochs that comes closest to the target number of updates.

    >>> choose_epochs(1900, 64, "cpu"), choose_epochs(50_000, 128, "cpu"), choose_epochs(50, 8, "cpu")
    (34, 5, 60)
    """
    return int(np.clip(-(-UPDATES[device_type] // -(-samples // batch_size)), *EPOCHS))


def choose_side(data: Path, device_type: str) -> int:
    """The largest of `SIDES` that exceeds neither the median shorter side of the images nor the machine's limit."""
    files = list_images(data)[0] if data.is_dir() else list_manifest(data)
    sides = sides_of(files[:: max(len(files) // SIZE_SAMPLES, 1)])
    median = float(np.median(sides)) if sides else MAX_SIDE[device_type]
    fitting = [side for side in SIDES if side <= min(median, MAX_SIDE[device_type])]
    side = fitting[-1] if fitting else SIDES[0]
    log.info("images are resized to %d pixels (--image-size)", side)
    return side


def sides_of(files: Sequence[Path]) -> list[int]:
    """The shorter sides, in pixels, of the readable images."""
    sides: list[int] = []
    for file in files:
        try:
            with open_image(file) as image:
                sides.append(min(image.size))
        except Exception:
            continue
    return sides
