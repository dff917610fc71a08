"""The defaults of `run`, chosen by the size of the data and the machine."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from easycoreset.console import log
from easycoreset.data import Source, has_image_files
from easycoreset.models import choose_model
from easycoreset.options import PipelineOptions
from easycoreset.training.budget import choose_batch, choose_epochs, choose_side
from easycoreset.training.initial_weights import PRETRAINED, model_name_in
from easycoreset.training.setup import choose_device, open_data

MAX_SCORED_EPOCHS = 15


@dataclass(frozen=True)
class RunDefaults:
    """The chosen defaults.

    Attributes:
        options: the options with the defaults filled in.
        every: number of epochs from one scored epoch to the next.
        updates: training steps of each model trained after scoring.
        source: the data set.
        device: where the models run.
    """

    options: PipelineOptions
    every: int
    updates: int
    source: Source
    device: torch.device


def choose_defaults(options: PipelineOptions) -> RunDefaults:
    """Fill in the options that were not given.

    Raises:
        UsageError: the data cannot be opened.
    """
    device_type = choose_device(options.device).type
    if not has_image_files(options.data):
        options = replace(options, skip_unreadable=False)
    if options.image_size is None and has_image_files(options.data):
        options = replace(options, image_size=choose_side(Path(options.data), device_type))
    device, source = open_data(options)
    samples = len(source.splits["train"])
    batch_size = options.batch_size or choose_batch(samples)
    steps_per_epoch = -(-samples // batch_size)
    epochs = options.epochs or choose_epochs(samples, batch_size, device_type)
    pretrained_model = "torchvision:resnet18" if options.init == PRETRAINED else model_name_in(options.init)
    model = options.model or pretrained_model or choose_model(source.shape, device)
    filled = replace(options, model=model, epochs=epochs, batch_size=batch_size)
    return RunDefaults(filled, max(1, -(-epochs // MAX_SCORED_EPOCHS)), epochs * steps_per_epoch, source, device)


def log_defaults(choices: RunDefaults) -> None:
    """Log what was chosen."""
    options, splits = choices.options, choices.source.splits
    log.info(
        "%d training and %d test images of %d classes, %s; model %s, %s epochs, %d updates of %s images on %s",
        len(splits["train"]),
        len(splits["test"]),
        len(choices.source.class_names),
        "x".join(map(str, choices.source.shape)),
        options.model,
        options.epochs,
        choices.updates,
        options.batch_size,
        choices.device,
    )
