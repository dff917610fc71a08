"""Resolve and check a training run before it starts."""

import math
import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import (
    Source,
    Split,
    data_name,
    has_image_files,
    make_path_absolute,
    needs_image_size,
    open_source,
)
from easycoreset.data.cache import new_notes
from easycoreset.data.content_hashes import training_data_record
from easycoreset.data.keyed_random import derive_seed
from easycoreset.devices import with_index
from easycoreset.dynamic.chooser import DynamicChooser
from easycoreset.errors import EasycoresetWarning, UsageError, describe_error, quote, require
from easycoreset.models import CPU_THREADS, MODELS, build_model, choose_model
from easycoreset.models.card import ModelCard, card_for
from easycoreset.models.saved import check_savable
from easycoreset.objectives import Objective, check_losses, is_standard, load_objective
from easycoreset.options import (
    READING_FIELDS,
    ComputeOptions,
    RecipeOptions,
    ScoreOptions,
    options_json,
    resolve_optimizer,
)
from easycoreset.process_group import has_launcher, init_process_group, local_rank
from easycoreset.python_objects import is_object_spec, name_briefly
from easycoreset.tables import Coreset, Ints, kept_count
from easycoreset.tracking import check_tracker
from easycoreset.training.initial_weights import InitialWeights, model_name_in, read_initial_weights
from easycoreset.training.model_checks import check_model, require_gradient
from easycoreset.training.rows import hold_out_rows, training_rows

FEW_UPDATES = 50
MIN_LAST_BATCH_DIVISOR = 8  # a last batch smaller than 1/8 of the others harms batch norm: it is dropped
_DEFAULT_THREADS = torch.get_num_threads()  # torch's default, before anything changed it


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """A training run with all its options resolved.

    Attributes:
        options: the options as given.
        device: where the run computes.
        source: the data set.
        train_indices: [n] the training samples, as indices of the training split, ascending.
        validation_indices: [m] the held-out samples, as indices of the training split.
        weight: [N] float32 weights of all samples of the training split, on the device; None if all are 1.
        model_name: the model, as `--model` spells it.
        objective_name: the objective in its canonical spelling.
        objective: the loss that a training step minimises.
        schedule: the learning rate schedule.
        augment: the augmentation of the training batches.
        autocast: whether the model runs under bf16 autocast.
        epochs: the number of epochs; `updates` may end the last one early.
        updates: the number of updates in all epochs together.
        steps_per_epoch: the updates of a full epoch.
        warmup: the share of all updates in which the learning rate rises; None for the schedule's default.
        initial_weights: the initial weights, or None for random ones.
        method: the dynamic method in its canonical spelling, or None.
        fraction: the share of the samples that an epoch of it trains on, for methods that take one.
        ends_by_epochs: whether the budget is a number of epochs whose updates are not known before.
    """

    options: RecipeOptions
    device: torch.device
    source: Source
    train_indices: Ints
    validation_indices: Ints
    weight: Tensor | None
    model_name: str
    objective_name: str
    objective: Objective
    schedule: str
    augment: str
    autocast: bool
    epochs: int
    updates: int
    steps_per_epoch: int
    warmup: float | None = None
    initial_weights: InitialWeights | None = None
    method: str | None = None
    fraction: float | None = None
    ends_by_epochs: bool = False

    @property
    def split(self) -> Split:
        """The training split."""
        return self.source.splits["train"]

    @cached_property
    def two_images(self) -> Tensor:
        """Two images of the training split on the device, to run a model on, [2,C,H,W]."""
        return next(self.split.batches(np.arange(min(2, len(self.split))), 2, self.device)).x

    def card(self, provenance: dict[str, Any] | None = None) -> ModelCard:
        """The card of the model that is trained."""
        return card_for(
            self.model_name,
            self.source,
            eps=getattr(self.objective, "eps", None),
            provenance=provenance or {},
            trained_on=self.training_data if provenance is not None else None,
        )

    @cached_property
    def training_data(self) -> dict[str, Any]:
        """A description of the training samples, for `model.json`."""
        return training_data_record(self.split, self.train_indices)

    def identity(self, options: RecipeOptions) -> dict[str, Any]:
        """All that determines the result: the options, with defaults resolved, and the data."""
        resolved = {
            "data": data_name(options.data),
            "model": self.model_name,
            "objective": self.objective_name,
            "schedule": self.schedule,
            "augment": self.augment,
            "fingerprint": self.split.fingerprint,
            "shape": list(self.source.shape),
        }
        if options.coreset is not None:
            weight = b"" if self.weight is None else self.weight.cpu().numpy().tobytes()
            resolved["coreset"] = (
                f"{len(self.train_indices)} samples, {derive_seed(str(self.train_indices.tobytes()), str(weight)):x}"
            )
        if self.method is not None:
            resolved["method"] = self.method
        if self.initial_weights is not None:
            resolved["init"] = f"weights {self.initial_weights.digest}"
        return options_json(options, neutral=False) | resolve_optimizer(options) | resolved


def open_data(options: ComputeOptions) -> tuple[torch.device, Source]:
    """Choose the device and open the data set; notes about the data are logged.

    Raises:
        UsageError: the device is not available or the data cannot be opened.
    """
    reading = {name: getattr(options, name) for name in READING_FIELDS}
    device = choose_device(options.device)
    opening = {"num_workers": options.num_workers, "download": options.download}
    return device, open_for_device(options.data, device, reading, **opening)


def open_for_device(data: str, device: torch.device, reading: dict[str, Any], **opening: Any) -> Source:
    """Open a data set; files are resized to 64 pixels, on a GPU to 224, unless `reading` says otherwise."""
    if reading["image_size"] is None and has_image_files(data):
        reading = reading | {"image_size": 64 if device.type == "cpu" else 224}
    source = open_source(data, **reading, **opening)
    for note in new_notes(source):
        if is_object_spec(data):  # whose owner did not choose what is said of files
            warnings.warn(f"data {name_briefly(source.name)}: {note}", EasycoresetWarning, stacklevel=2)
        else:
            log.info("%s: %s", source.name, note)
    return source


Options = TypeVar("Options", bound=ComputeOptions)


def match_image_size(options: Options, provenance: dict[str, Any], description: str) -> Options:
    """Set `image_size` to the size in the provenance of scores or a coreset, unless the options give one."""
    _, height, width = provenance.get("shape", (0, 0, 1))
    if options.image_size is not None or height != width or not needs_image_size(options.data):
        return options
    log.info("images are resized to %d pixels, as for %s (--image-size)", height, description)
    return replace(options, image_size=height)


def options_record(options: ComputeOptions) -> dict[str, Any]:
    """The options for `run.json`, with a path to the data that is valid from any folder."""
    return options_json(options) | {"data": make_path_absolute(options.data)}


def choose_device(name: str) -> torch.device:
    """The device called `name`; auto takes a GPU if there is one.

    Raises:
        UsageError: this device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        raise UsageError(
            f"device must be available; got {quote(name)}, which this machine (or this build of torch) lacks"
        )
    if name != "cuda" or not has_launcher():
        return with_index(torch.device(name))
    gpus = torch.cuda.device_count()
    if local_rank() >= gpus:
        raise UsageError(
            f"device: this machine has {gpus} GPUs; start no more processes on it (--nproc-per-node {gpus})"
        )
    return torch.device(name, local_rank())


def set_threads(threads: int | None, model_name: str, device: torch.device) -> None:
    """Set the number of CPU threads of this process; small models take few, and at most PyTorch's default number.

    Small models take one thread if waiting threads spin: on shared cores, two such threads were 13 times slower.
    """
    chosen = _DEFAULT_THREADS
    if device.type == "cpu" and model_name in CPU_THREADS:
        sleeps = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"  # as the command line sets it
        chosen = min(CPU_THREADS[model_name] if sleeps else 1, chosen)
    torch.set_num_threads(threads if threads is not None else chosen)


def prepare(options: RecipeOptions, *, epochs: int | None, updates: int | None) -> TrainingSetup:
    """Resolve and check a training run.

    Raises:
        UsageError: invalid options or data.
    """
    objective_name, objective = load_objective(options.objective, options.eps)
    if options.coreset is not None:
        options = match_image_size(options, Coreset.read(options.coreset).provenance, f"coreset {options.coreset}")
    check_tracker(options.track)
    device, source = open_data(options)
    require(device.type == "cuda" or not options.cuda_graphs, "cuda_graphs", "left out without a GPU", True)
    init_process_group(device)
    index, weight = training_rows(options, source)
    index, validation = hold_out_rows(options, source, index)
    size = options.batch_size
    spec: str | None = getattr(options, "method", None)
    fraction: float | None = getattr(options, "fraction", None)
    method = None if spec is None else DynamicChooser(spec, source.splits["train"].labels, fraction, 0, size).name
    if method is None:
        steps = count_steps(len(index), size)
    else:  # without the samples that an earlier epoch left over
        steps = max(1, (len(index) if fraction is None else kept_count(fraction, len(index))) // size)
    updates = updates if updates is not None else steps * (epochs or 0)
    model_name = options.model or model_name_in(options.init) or choose_model(source.shape, device)
    if options.model is None:
        log.info("model %s is chosen (--model gives another)", model_name)
    set_threads(options.threads, model_name, device)
    schedule = (
        ("onecycle" if is_standard(objective_name) else "step") if options.schedule == "auto" else options.schedule
    )
    setup = TrainingSetup(
        options=options,
        device=device,
        source=source,
        train_indices=index,
        validation_indices=validation,
        weight=None if weight is None else torch.from_numpy(weight).to(device),
        model_name=model_name,
        objective_name=objective_name,
        objective=objective,
        schedule=schedule,
        augment=source.augmentation if options.augment == "auto" else options.augment,
        autocast=use_autocast(options.precision, device),
        epochs=math.ceil(updates / steps),
        updates=updates,
        steps_per_epoch=steps,
        warmup=warmup_share(options, steps, updates),
        method=method,
        fraction=fraction,
        ends_by_epochs=method is not None and epochs is not None,
    )
    if options.init is not None:
        setup = _with_initial_weights(setup, options.init)
    model = _build_with_weights(setup)  # logs its warnings here, once
    check_model(model, source, device)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"model {quote(model_name)} must have parameters that training changes; it has none")
    if not is_standard(objective_name) or isinstance(options, ScoreOptions):
        require_gradient(model, source, device, model_name)
    if model_name not in MODELS:
        check_savable(model, setup.card())
    _check_train_mode(model, setup)
    return setup


def count_steps(samples: int, size: int) -> int:
    """The updates of an epoch of all samples; a last batch that is too small is left out."""
    remainder = samples % size
    drop_last = samples > size and (remainder == 1 or 0 < MIN_LAST_BATCH_DIVISOR * remainder < size)
    return math.ceil(samples / size) - drop_last


def with_rows(setup: TrainingSetup, rows: Ints) -> TrainingSetup:
    """The same training, of as many epochs, on other rows of the training split."""
    steps = count_steps(len(rows), setup.options.batch_size)
    return replace(setup, train_indices=np.sort(rows), steps_per_epoch=steps, updates=steps * setup.epochs)


def _check_train_mode(model: nn.Module, setup: TrainingSetup) -> None:
    """Try one training batch, since some models fail only in train mode (batch norm, auxiliary outputs).

    The model must not be used afterwards: its running statistics have changed.
    """
    rows = setup.train_indices[: min(setup.options.batch_size, len(setup.train_indices), 8)]
    batch = next(setup.split.batches(rows, len(rows), setup.device))
    generator = torch.Generator(setup.device).manual_seed(0)
    try:
        with torch.no_grad() if is_standard(setup.objective_name) else torch.enable_grad():
            losses = setup.objective(model.train(), batch.x, batch.y, generator)
    except Exception as error:  # a user's model or objective may raise any exception
        reason = f"cannot train on batches of {len(rows)}: {describe_error(error)}"
        raise UsageError(f"model {quote(setup.model_name)} {reason}") from None
    check_losses(losses, len(rows))


def log_few_updates(setup: TrainingSetup) -> None:
    """Log a hint if there are too few updates to learn much, as for small image folders."""
    if setup.updates < FEW_UPDATES:
        log.info("only %d updates in total: a smaller --batch-size or more --epochs give more", setup.updates)


def warmup_share(options: RecipeOptions, steps: int, updates: int) -> float | None:
    """The warm-up's share of all updates; None if the options do not set it.

    Raises:
        UsageError: the warm-up is as long as training or longer.
    """
    if options.warmup is None:
        return None
    rule = f"shorter than training, which has {updates / steps:g} epochs"
    require(options.warmup * steps < updates, "warmup", rule, options.warmup)
    return options.warmup * steps / updates


def use_autocast(precision: str, device: torch.device) -> bool:
    """Whether the model runs under bf16 autocast; auto: on a GPU that has bf16 in hardware, rather than emulated."""
    if precision == "auto" and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def fresh_model(setup: TrainingSetup) -> nn.Module:
    """Build the model of a training setup on its device, initialised from its seed."""
    torch.manual_seed(derive_seed(setup.options.seed, "initialisation"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)  # `prepare` has shown the warnings already
        return _build_with_weights(setup)


def _build_with_weights(setup: TrainingSetup) -> nn.Module:
    """Build the model of a training setup on its device, with its initial weights."""
    model = build_model(setup.card())
    if setup.initial_weights is not None:
        setup.initial_weights.load(model)
    return to_device(model, setup.device)


def _with_initial_weights(setup: TrainingSetup, init: str) -> TrainingSetup:
    """Add initial weights to a training setup; if they come with a normalisation, it replaces the one of the data."""
    weights = read_initial_weights(init, setup.card())
    mean = weights.mean or setup.source.mean
    std = weights.std or setup.source.std
    return replace(setup, initial_weights=weights, source=replace(setup.source, mean=mean, std=std))


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model; channels last is the faster layout for convolutions on CPUs and GPUs."""
    return model.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
