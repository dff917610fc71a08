"""The only training loop: a generator of epochs that writes checkpoints and resumes bit for bit."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from easycoreset.console import log
from easycoreset.data import Batch
from easycoreset.data.augment import augment
from easycoreset.data.keyed_random import derive_seed, make_generator
from easycoreset.devices import is_out_of_memory
from easycoreset.errors import MAX_MESSAGE, RunError, UsageError, describe_error, shorten
from easycoreset.models.last_layer import float32_logits
from easycoreset.objectives import weighted_mean
from easycoreset.process_group import (
    broadcast,
    is_distributed,
    is_main_process,
    rank,
    sync_model,
    world_size,
)
from easycoreset.progress import Progress, progress
from easycoreset.recorder import HardnessRecorder
from easycoreset.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from easycoreset.training.compiled_model import FixedShape
from easycoreset.training.distributed import all_finite, all_reduce_gradients, batch_share
from easycoreset.training.loss_meter import LossMeter
from easycoreset.training.observed_model import ObservedModel, wrap_model
from easycoreset.training.optimizer import build_optimizer
from easycoreset.training.profiling import Profile, profile_iteration
from easycoreset.training.sampling import EpochOrder, Sampling, StaticSampling
from easycoreset.training.schedule import learning_rate
from easycoreset.training.setup import TrainingSetup
from easycoreset.training.weight_average import WeightAverage

History = list[dict[str, float | None]]
LOSS_EVERY = 20  # steps between readings of the loss; each one waits for the device


@dataclass(frozen=True)
class Epoch:
    """A finished epoch.

    Attributes:
        number: from 1.
        model: the model after the epoch; do not change it.
        metrics: epoch, updates so far, mean of its finite losses (None if there were none), lr, seconds.
        trained: the result if training ended now: the average of the weights with `ema`, else the model.
    """

    number: int
    model: nn.Module
    metrics: dict[str, float | None]
    trained: nn.Module


def fit(
    setup: TrainingSetup,
    model: nn.Module,
    *,
    recorder: HardnessRecorder | None = None,
    sampling: Sampling | None = None,
    feature_layer: str | None = None,
    folder: Path | None = None,
    history: History | None = None,
) -> Iterator[Epoch]:
    """Train `model` in place and yield each epoch as it ends.

    All randomness is a function of (seed, epoch, step), so a run that resumes from a checkpoint in `folder` equals the
    uninterrupted run bit for bit on the same CPU. The checkpoint of an epoch is written when the caller asks for the
    next one: if the caller is interrupted while it uses an epoch, that epoch is yielded again. torch's global generator
    is seeded in every step (dropout draws from it). With `ema`, the average of the weights is copied into the model
    once, when the last epoch is over; until then `Epoch.model` is the model without averaging.

    Several processes (torch.distributed) share every batch: their gradients are summed, each weighted by its number of
    samples, so that an update is the same as in one process, except that batch norm normalises the samples of each
    process apart. Only the main process writes, and a run may resume with another number of processes.

    Args:
        setup: the resolved options and data.
        model: the model, on the setup's device.
        recorder: records every batch and its logits.
        sampling: gives the samples of each epoch; None: the setup's, all in each.
        feature_layer: name of the layer whose input the recorder gets as features; None: the last linear layer.
        folder: where the checkpoint is; None for no checkpoints.
        history: filled with the metrics of every epoch, including those before a resume.

    Raises:
        UsageError: the checkpoint is corrupt.
        RunError: the loss is not finite, with `on_nan` stop.
    """
    sampling = sampling or StaticSampling(setup)
    state = _Training(setup, model, recorder, sampling, feature_layer, folder, [] if history is None else history)
    logits = float32_logits(model, setup.two_images) if setup.autocast else contextlib.nullcontext()
    with progress("training", setup.updates, state.updates_done) as bar, contextlib.closing(state), logits:
        while not state.finished:
            _run_epoch(state, bar)
            yield Epoch(state.epoch - 1, model, state.history[-1], state.trained)
            state.save()
    state.load_average()


def _run_epoch(state: "_Training", bar: Progress) -> None:
    """Run an epoch.

    Raises:
        RunError: a GPU's memory does not suffice for a batch.
    """
    try:
        state.run_epoch(bar)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        size = state.setup.options.batch_size
        reason = f"batch_size {size} is too much for the GPU: a smaller --batch-size needs less"
        raise RunError(f"{reason} ({describe_error(error)})") from None


class _Training:
    """The state and the steps of one training run."""

    def __init__(
        self,
        setup: TrainingSetup,
        model: nn.Module,
        recorder: HardnessRecorder | None,
        sampling: Sampling,
        feature_layer: str | None,
        folder: Path | None,
        history: History,
    ) -> None:
        self.setup = setup
        self.model = model
        self.recorder = recorder
        self.sampling = sampling
        self.order: EpochOrder | None = None  # of the current epoch, once it has begun
        self.updates_before = 0  # of the current epoch
        self.folder = folder
        self.history = history
        options = setup.options
        self.optimizer = build_optimizer(model, options)
        self.peak_lr = self.optimizer.param_groups[0]["lr"]
        self.average = None if options.ema is None else WeightAverage(model, options.ema)
        mode = "reduce-overhead" if options.cuda_graphs else None
        network = FixedShape(model, mode) if options.compile else model
        self.train_model = network if recorder is None else wrap_model(network, model, recorder, setup, feature_layer)
        self.epoch = 1
        self.step = 0
        self.epoch_seconds = 0.0
        self.losses = LossMeter(setup.device, stops=options.on_nan == "stop")
        profiled = options.profile and is_main_process()
        self.profile = Profile(folder, setup.device) if profiled and folder is not None else None
        saved = broadcast(load_checkpoint(folder) if folder is not None and is_main_process() else None)
        if saved is not None:
            try:
                self._load(saved)
            except Exception as error:  # torch raises almost any exception if a state does not fit
                reason = shorten(" ".join(str(error).split()) or type(error).__name__, 2 * MAX_MESSAGE)
                raise UsageError(
                    f"{CHECKPOINT_FILE} of {folder} is corrupt ({reason}); --overwrite begins anew"
                ) from None
        self._timer_start = self._last_save = time.monotonic()

    def close(self) -> None:
        """Stop the profiler."""
        if self.profile is not None:
            self.profile.close()

    @property
    def updates_done(self) -> int:
        """The number of updates so far."""
        return self.updates_before + self.step

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        if self.setup.ends_by_epochs:
            return self.epoch > self.setup.epochs
        return self.updates_done >= self.setup.updates

    @property
    def progress(self) -> float:
        """The share of the budget that is done."""
        if not self.setup.ends_by_epochs:
            return self.updates_done / self.setup.updates
        steps = self.order.steps if self.order is not None else 1
        return (self.epoch - 1 + self.step / steps) / self.setup.epochs

    def run_epoch(self, bar: Progress) -> None:
        """Run the remaining steps of the current epoch."""
        setup = self.setup
        size = setup.options.batch_size
        if self.order is None:
            steps_left = sys.maxsize if setup.ends_by_epochs else setup.updates - self.updates_before
            self.order = self.sampling.begin_epoch(self.epoch, self.progress, steps_left, self.model)
        steps = self.order.steps
        order = self.order.index[: steps * size]

        def transform(images: Tensor, step: int) -> Tensor:
            return augment(
                images, setup.augment, make_generator(setup.options.seed, "augmentation", *_rng_keys(self.epoch, step))
            )

        self.model.train()
        batches = setup.split.batches(
            order, size, setup.device, transform, skip=self.step, shard=(rank(), world_size())
        )
        for batch in profile_iteration("batch", batches):
            global_size = min(size, len(order) - self.step * size)
            sample_weights = self.order.batch_weight(self.step, size)
            loss = self._update(batch, batch_share(len(batch.x), global_size), sample_weights)
            self.losses.add(loss)
            self.step += 1
            if self.profile is not None:
                self.profile.step()
            loss_read = self.step % LOSS_EVERY == 0 or self.step == steps
            bar.advance(1, f"epoch {self.epoch} loss {self._mean_loss():.3f}" if loss_read else None)
            if self.step < steps and self._save_due(loss_was_reduced=loss_read):
                self.save()
        self._end_epoch()

    def _end_epoch(self) -> None:
        """Write the epoch's metrics to the history, and go on to the next epoch."""
        sync_model(self.model)  # the running statistics of batch norm differ between processes
        seconds = self.epoch_seconds + time.monotonic() - self._timer_start
        loss = self._mean_loss()
        metrics = {"epoch": self.epoch, "updates": self.updates_done, "loss": None if math.isnan(loss) else loss}
        metrics |= {"lr": self.optimizer.param_groups[0]["lr"], "seconds": seconds}
        self.history.append(metrics | self.sampling.end_epoch())
        self.epoch += 1
        self.updates_before = self.updates_done
        self.step = 0
        self.order = None
        self.epoch_seconds = 0.0
        self.losses.clear()
        if self.recorder is not None:
            self.recorder.end_epoch()

    def _save_due(self, loss_was_reduced: bool) -> bool:
        """Whether a checkpoint is due; with several processes, the main one decides when the loss is reduced anyway."""
        due = time.monotonic() - self._last_save > 60 * self.setup.options.checkpoint_minutes
        if not is_distributed():
            return due
        return loss_was_reduced and broadcast(due)

    def _update(self, batch: Batch, loss_weight: float, sample_weights: Tensor | None) -> Tensor:
        """Do one update; returns `loss_weight` times the mean loss of this process's samples, on the device."""
        setup = self.setup
        options = self.setup.options
        step_seed = derive_seed(options.seed, "step", *_rng_keys(self.epoch, self.step))
        torch.manual_seed(step_seed)
        if options.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_lr * learning_rate(setup.schedule, self.progress, setup.warmup)
        x = batch.x
        if isinstance(self.train_model, ObservedModel):
            x = self.train_model.train().watch(batch, loss_weight)
        generator = torch.Generator(setup.device).manual_seed(step_seed)
        autocast = torch.autocast(setup.device.type, torch.bfloat16) if setup.autocast else contextlib.nullcontext()
        with record_function("forward"), autocast:
            losses = setup.objective(self.train_model, x, batch.y, generator)
            loss = loss_weight * weighted_mean(losses, sample_weights)
        if self.recorder is not None:
            self.recorder.observe_losses(losses, batch.index)
        self.optimizer.zero_grad(set_to_none=True)
        with record_function("backward"):
            loss.backward()
        with record_function("update"):
            all_reduce_gradients(self.model)
            if options.on_nan == "continue" and not all_finite(loss):
                return torch.full_like(
                    loss.detach(), float("nan")
                )  # in every process, even if the loss of only one is not finite
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.model)
        return loss.detach()

    @property
    def trained(self) -> nn.Module:
        """The average of the weights if there is one, else the model."""
        return self.model if self.average is None else self.average.module

    def load_average(self) -> None:
        """Copy the average of the weights, if there is one, into the model."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())

    def _mean_loss(self) -> float:
        """Mean of the epoch's finite losses so far, NaN if there are none; raises as `LossMeter.mean`."""
        return self.losses.mean(self.epoch, self.step, self.updates_done)

    def save(self) -> None:
        """Write a checkpoint."""
        if self.step:  # within an epoch; at its end its seconds are already in the history
            self.epoch_seconds += time.monotonic() - self._timer_start
        loss_state = self.losses.state_dict()
        recorder_state = self.recorder.state_dict() if self.recorder else None
        if self.folder is not None and is_main_process():
            save_checkpoint(
                self.folder,
                {
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    **loss_state,
                    "epoch": self.epoch,
                    "step": self.step,
                    "history": self.history,
                    "seconds": self.epoch_seconds,
                    "recorder": recorder_state,
                    "updates": self.updates_before,
                    "sampling": self.sampling.state_dict(),
                    "average": None if self.average is None else self.average.state_dict(),
                },
            )
        self._last_save = self._timer_start = time.monotonic()  # the time that saving takes is not training's

    def _load(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.losses.load_state_dict(saved)
        self.epoch = saved["epoch"]
        self.step = saved["step"]
        self.updates_before = saved.get("updates", (self.epoch - 1) * self.setup.steps_per_epoch)
        order = self.sampling.load_state_dict(saved.get("sampling", {}))
        self.order = order if self.step else None
        self.epoch_seconds = saved["seconds"]
        self.history[:] = saved["history"]
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        if self.recorder is not None and saved["recorder"] is not None:
            self.recorder.load_state_dict(saved["recorder"])
        log.info("resuming from epoch %d, step %d", self.epoch, self.step)


def _rng_keys(epoch: int, step: int) -> tuple[int, ...]:
    """Keys of a step's random numbers: the main process draws as a single process does, every other one its own."""
    return (epoch, step) if rank() == 0 else (epoch, step, rank())
