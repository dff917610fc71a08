"""The defaults of `run`, chosen by the size of the data and the machine; each choice is logged."""

from dataclasses import dataclass, replace
from pathlib import Path

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
    epochs = options.epochs or choose_epochs(samples, batch_size, device_type)
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
