"""What `run` decides where nobody else did, from the size of the data and the machine; each choice is said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from easycoreset.console import log
from easycoreset.data import Source, is_listed
from easycoreset.data.folder import list_images
from easycoreset.data.manifest import list_manifest
from easycoreset.decoding import open_picture
from easycoreset.models import choose_model
from easycoreset.options import PipelineOptions
from easycoreset.training.initial_weights import PRETRAINED, model_name_in
from easycoreset.training.setup import choose_device, open_data

SIDES = (32, 64, 96, 128, 160, 224)  # to which pictures are resized
LARGEST = {"cpu": 64, "mps": 128, "cuda": 224}
UPDATES = {"cpu": 1000, "mps": 2000, "cuda": 4000}  # that are aimed at
EPOCHS = (5, 60)  # at least and at most
SCORED = 15  # epochs at most
LOOKED_AT = 200  # pictures whose size is looked at


@dataclass(frozen=True)
class Choices:
    """What is decided.

    Attributes:
        options: with what they left open.
        every: scored epochs, every so many.
        updates: of what is trained after scoring.
        source: the data.
    """

    options: PipelineOptions
    every: int
    updates: int
    source: Source


def choose(options: PipelineOptions) -> Choices:
    """Fill in what the options leave open, and say so.

    Raises:
        UsageError: data that cannot be opened.
    """
    kind = choose_device(options.device).type
    if options.image_size is None and is_listed(options.data):
        options = replace(options, image_size=choose_side(Path(options.data), kind))
    device, source = open_data(options)
    samples = len(source.splits["train"])
    batch = options.batch_size or choose_batch(samples)
    steps = -(-samples // batch)
    epochs = options.epochs or int(np.clip(-(-UPDATES[kind] // steps), *EPOCHS))
    published = "torchvision:resnet18" if options.init == PRETRAINED else model_name_in(options.init)
    model = options.model or published or choose_model(source.shape, device)
    filled = replace(options, model=model, epochs=epochs, batch_size=batch)
    log.info(
        "%d training and %d test images of %d classes, %s; model %s, %d epochs of %d steps of %d images on %s",
        samples,
        len(source.splits["test"]),
        len(source.class_names),
        "x".join(map(str, source.shape)),
        model,
        epochs,
        steps,
        batch,
        device,
    )
    return Choices(filled, max(1, -(-epochs // SCORED)), epochs * steps, source)


def choose_batch(samples: int) -> int:
    """128, or less where an epoch would have few steps.

    >>> choose_batch(50_000), choose_batch(800), choose_batch(50)
    (128, 32, 8)
    """
    return int(np.clip(2 ** int(np.log2(max(samples // 24, 1))), 8, 128))


def choose_side(data: Path, kind: str) -> int:
    """The largest usual side that is not above the pictures' own (the median of some) nor too much for the machine."""
    files = list_images(data)[0] if data.is_dir() else list_manifest(data)
    own = sides_of(files[:: max(len(files) // LOOKED_AT, 1)])
    wanted = float(np.median(own)) if own else LARGEST[kind]
    fitting = [side for side in SIDES if side <= min(wanted, LARGEST[kind])]
    side = fitting[-1] if fitting else SIDES[0]
    log.info("images are brought to %d pixels (--image-size)", side)
    return side


def sides_of(files: Sequence[Path]) -> list[int]:
    """The shorter sides of the pictures that can be read."""
    found: list[int] = []
    for file in files:
        try:
            with open_picture(file) as image:
                found.append(min(image.size))
        except Exception:
            continue
    return found
