"""One attack on one split at one eps: batch by batch, stage by stage for an ensemble, resumed after a kill."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file as load_images
from safetensors.torch import save_file as save_images
from torch import Tensor, nn

from easycoreset.attacks import Attack, load_attack
from easycoreset.attacks.ball import check_in_ball
from easycoreset.attacks.climbing import climber
from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.errors import RunError, UsageError
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.files import write_atomic
from easycoreset.models.modes import frozen
from easycoreset.options import EvaluateOptions
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table
from easycoreset.progress import progress

SAVE_INTERVAL = 5.0  # seconds between two saves of the progress, at least
SAVE_INTERVAL_FACTOR = 20  # with images, the interval is also at least so many times the last save's duration
UNBROKEN = 127  # `broken_by` of a sample that is not broken


@dataclass
class AttackProgress:
    """The progress of one attack.

    Attributes:
        pred: [n] class predicted for the clean image, and once the sample is attacked, for its attacked image.
        broken_by: [n] int8, number of the stage that broke a sample; -1: misclassified when clean, 127: not broken.
        stages_done: number of finished stages.
        samples_done: number of samples that the unfinished stage has attacked.
    """

    pred: np.ndarray
    broken_by: np.ndarray
    stages_done: int = 0
    samples_done: int = 0

    @property
    def broken(self) -> np.ndarray:
        """[n] bool, the samples that are misclassified, clean or under attack."""
        return self.broken_by != UNBROKEN

    def save(self, file: Path, images: Tensor | None = None) -> None:
        """Write the images, then the progress: after a kill in between, some samples are attacked again, to no harm."""
        if images is not None:
            write_atomic(file.with_suffix(".safetensors"), lambda path: save_images({"x": images}, path))
        table = pa.table({"pred": self.pred, "stage": self.broken_by})
        write_table(with_provenance(table, {"done": self.stages_done, "samples": self.samples_done}), file)

    @classmethod
    def resume_or_begin(cls, clean: Outcome, file: Path | None) -> "AttackProgress":
        """Read the progress of an earlier start, or begin from the clean outcome."""
        fresh = cls(clean.pred.copy(), np.where(clean.broken, -1, UNBROKEN).astype(np.int8))
        if file is None or not file.exists():
            return fresh
        try:
            table = read_table(file, {"pred": "integer", "stage": "integer"})
            provenance = read_provenance(table, file, None)
            pred = table["pred"].to_numpy().copy()
            broken_by = table["stage"].to_numpy().copy()
            resumed = cls(pred, broken_by, int(provenance["done"]), int(provenance["samples"]))
        except (UsageError, KeyError):
            return fresh
        return resumed if len(resumed.pred) == len(fresh.pred) else fresh


def attack_split(
    name: str,
    attack: Attack,
    eps: float,
    model: nn.Module,
    split: Split,
    clean: Outcome,
    options: EvaluateOptions,
    device: torch.device,
    file: Path | None = None,
) -> tuple[Outcome, Tensor | None]:
    """Attack the samples that are correct when clean, and predict the classes of the attack's images anew.

    An ensemble's later stages attack only the samples that no earlier stage broke.

    Args:
        name: of the attack.
        attack: the attack; one with `stages(classes)` is an ensemble.
        eps: radius.
        model: in any mode.
        split: the data.
        clean: the outcome without an attack.
        options: norm, batch size, whether images are saved.
        device: to run on.
        file: where the progress is saved, with the images beside it; None: it is not saved.

    Returns:
        The outcome, and the images [n,C,H,W] of all samples if they are to be saved.

    Raises:
        RunError: an image outside the ball or [0,1].
    """
    split_into_stages = getattr(attack, "stages", None)
    stages = {name: attack} if split_into_stages is None else split_into_stages(_count_classes(model, split, device))
    if "pgd-margin" in stages:  # used where there are too few classes for APGD-T
        log.info("%s: with fewer than 4 classes PGD with the margin loss replaces APGD-T", name)
    climbs = options.attack_precision == "bf16" and getattr(attack, "climbs_in_bf16", False)  # then all its stages do
    state = AttackProgress.resume_or_begin(clean, file)
    stage_accuracy = dict[str, float]()
    images = _load_or_reset_images(split, clean, options, file, state) if options.save_adversarial else None
    row_of = {int(index): row for row, index in enumerate(clean.index)}
    for number, (stage_name, stage_attack) in enumerate(stages.items()):
        if number >= state.stages_done:
            indices = clean.index[
                state.broken_by >= number
            ]  # with those that this stage broke before a kill, so that batches stay the same
            label = f"{name} {stage_name}" if len(stages) > 1 else name
            with climber(model, _two_images(split, device)) if climbs else contextlib.nullcontext(model) as climbed:
                attacked = (stage_attack, climbed)
                _run_stage(
                    label, attacked, indices, number, eps, model, split, state, row_of, images, options, device, file
                )
        stage_accuracy[stage_name] = float(np.mean(state.broken_by > number))
    outcome = Outcome(
        name, options.norm, eps, clean.index, state.pred, state.broken, stage_accuracy if len(stages) > 1 else {}
    )
    return outcome, images


def _run_stage(
    label: str,
    attacked: tuple[Attack, nn.Module],
    indices: np.ndarray,
    number: int,
    eps: float,
    model: nn.Module,
    split: Split,
    state: AttackProgress,
    row_of: dict[int, int],
    images: Tensor | None,
    options: EvaluateOptions,
    device: torch.device,
    file: Path | None,
) -> None:
    """Attack the samples `indices`; batches do not depend on which samples this stage has broken so far.

    `attacked` are the attack and the model whose gradients it takes, which may be `model` in bf16.
    """
    attack, climbed = attacked
    last_save = time.monotonic()
    interval = SAVE_INTERVAL
    with progress(f"{label} eps {eps:.4g}", len(indices), state.samples_done) as bar:
        for batch in split.batches(indices[state.samples_done :], options.samples_per_batch, device):
            x_adv = attack(climbed, batch.x, batch.y, batch.index)
            check_in_ball(label, x_adv, batch.x, eps, options.norm)
            with frozen(model), torch.no_grad():
                pred = model(x_adv).argmax(1).cpu().numpy()
            batch_rows = np.array([row_of[index] for index in batch.index.tolist()])
            state.pred[batch_rows] = pred
            state.broken_by[batch_rows[pred != batch.y.cpu().numpy()]] = number
            if images is not None:
                images[batch_rows] = x_adv.cpu()
            state.samples_done += len(batch_rows)
            bar.advance(len(batch_rows))
            if file is not None and time.monotonic() - last_save > interval:
                save_start = time.monotonic()
                state.save(file, images)
                last_save = time.monotonic()
                if images is not None:  # saving many images takes long
                    interval = max(SAVE_INTERVAL, SAVE_INTERVAL_FACTOR * (last_save - save_start))
    state.stages_done = number + 1
    state.samples_done = 0
    if file is not None:
        state.save(file, images)


def load_for(options: EvaluateOptions, spec: str, eps: float) -> tuple[str, Attack]:
    """The spelling of an attack of an evaluation, and the attack at one eps."""
    other = {"surrogate": options.surrogate, "factory": options.model}
    return load_attack(spec, norm=options.norm, seed=options.seed, eps=eps, **other)


def check_saved_images(spec: str, split: Split, rows: np.ndarray, options: EvaluateOptions) -> None:
    """If `spec` is an attack `file:...`, check the images that it reads before any attack runs.

    Raises:
        UsageError: images outside a ball or [0,1], or of other samples.
    """
    if not spec.startswith("file:"):
        return
    for eps in options.eps or ():
        name, attack = load_for(options, spec, eps)
        for batch in split.batches(rows, options.samples_per_batch):
            x_adv = attack(nn.Identity(), batch.x, batch.y, batch.index)
            try:
                check_in_ball(name, x_adv, batch.x, eps, options.norm)
            except RunError as error:
                raise UsageError(str(error)) from None


def _count_classes(model: nn.Module, split: Split, device: torch.device) -> int:
    with frozen(model), torch.no_grad():
        return model(_two_images(split, device)).shape[1]


def _two_images(split: Split, device: torch.device) -> Tensor:
    return next(split.batches(np.arange(min(2, len(split))), 2, device)).x


def _load_or_reset_images(
    split: Split, clean: Outcome, options: EvaluateOptions, file: Path | None, state: AttackProgress
) -> Tensor:
    """The images of an earlier start; if there are none, the clean images, and `state` is reset to the beginning."""
    if file is not None and state.stages_done + state.samples_done and file.with_suffix(".safetensors").exists():
        images = load_images(file.with_suffix(".safetensors"))["x"]
        if len(images) == len(clean.index):
            return images
    fresh = AttackProgress.resume_or_begin(clean, None)
    state.pred = fresh.pred
    state.broken_by = fresh.broken_by
    state.stages_done = 0
    state.samples_done = 0
    return torch.cat([batch.x.contiguous() for batch in split.batches(clean.index, options.samples_per_batch)])
