"""The defaults of `run`, chosen by the size of the data and the machine; each choice is logged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from easycoreset.console import log
from easycoreset.data import Source, has_image_files
from easycoreset.data.folder import list_images
from easycoreset.data.manifest import list_manifest
from easycoreset.image_decoding import open_image
from easycoreset.models import choose_model
from easycoreset.options import PipelineOptions
from easycoreset.training.initial_weights import PRETRAINED, model_name_in
from easycoreset.training.setup import choose_device, open_data

SIDES = (32, 64, 96, 128, 160, 224)  # candidate image sizes, in pixels
MAX_SIDE = {"cpu": 64, "mps": 128, "cuda": 224}  # in pixels
UPDATES = {"cpu": 1000, "mps": 2000, "cuda": 4000}  # target number of updates of a training run
EPOCHS = (5, 60)  # minimum and maximum
MAX_SCORED_EPOCHS = 15
SIZE_SAMPLES = 200  # images whose size is read


@dataclass(frozen=True)
class RunDefaults:
    """The chosen defaults.

    Attributes:
        options: the options with the defaults filled in.
        every: number of epochs from one scored epoch to the next.
        updates: training steps of each model trained after scoring.
        source: the data set.
    """

    options: PipelineOptions
    every: int
    updates: int
    source: Source


def choose_defaults(options: PipelineOptions) -> RunDefaults:
    """Fill in the options that were not given, and log the choices.

    Raises:
        UsageError: the data cannot be opened.
    """
    device_type = choose_device(options.device).type
    if options.image_size is None and has_image_files(options.data):
        options = replace(options, image_size=choose_side(Path(options.data), device_type))
    device, source = open_data(options)
    samples = len(source.splits["train"])
    batch_size = options.batch_size or choose_batch(samples)
    steps_per_epoch = -(-samples // batch_size)
    epochs = options.epochs or int(np.clip(-(-UPDATES[device_type] // steps_per_epoch), *EPOCHS))
    pretrained_model = "torchvision:resnet18" if options.init == PRETRAINED else model_name_in(options.init)
    model = options.model or pretrained_model or choose_model(source.shape, device)
    filled = replace(options, model=model, epochs=epochs, batch_size=batch_size)
    log.info(
        "%d training and %d test images of %d classes, %s; model %s, %d epochs of %d steps of %d images on %s",
        samples,
        len(source.splits["test"]),
        len(source.class_names),
        "x".join(map(str, source.shape)),
        model,
        epochs,
        steps_per_epoch,
        batch_size,
        device,
    )
    return RunDefaults(filled, max(1, -(-epochs // MAX_SCORED_EPOCHS)), epochs * steps_per_epoch, source)


def choose_batch(samples: int) -> int:
    """The batch size: 128, or less if an epoch would have few steps.

    >>> choose_batch(50_000), choose_batch(800), choose_batch(50)
    (128, 32, 8)
    """
    return int(np.clip(2 ** int(np.log2(max(samples // 24, 1))), 8, 128))


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
