"""One attack on one split at one eps: batch by batch, stage by stage if it is an ensemble, going on after a kill."""

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
from easycoreset.attacks.ball import lengths
from easycoreset.console import log, progress
from easycoreset.data import Split
from easycoreset.errors import RunError, UsageError, quote
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.files import write_atomic
from easycoreset.models.modes import frozen
from easycoreset.options import EvaluateOptions
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table

TOLERANCE = 2e-6  # relative to the larger of 1 and the ball's radius, for float32's rounding
SAVE_SECONDS = 5.0  # between looks at the disk
SLOWER = 20  # times as long as the last saving took
STANDS = 127  # stage of a sample that no stage has broken


@dataclass
class Progress:
    """How far one attack has come.

    Attributes:
        pred: [n] class predicted.
        stage: [n] int8, the stage that broke a sample; -1 where it is wrong when clean, 127 where it stands.
        done: stages that are finished.
        samples: that the stage that is not has seen.
    """

    pred: np.ndarray
    stage: np.ndarray
    done: int = 0
    samples: int = 0

    @property
    def broken(self) -> np.ndarray:
        """[n] bool."""
        return self.stage != STANDS

    def save(self, file: Path, images: Tensor | None = None) -> None:
        """Write it, and before it the images: those may be ahead, for what is attacked again gives the same."""
        if images is not None:
            write_atomic(file.with_suffix(".safetensors"), lambda path: save_images({"x": images}, path))
        table = pa.table({"pred": self.pred, "stage": self.stage})
        write_table(with_provenance(table, {"done": self.done, "samples": self.samples}), file)

    @classmethod
    def begin(cls, clean: Outcome, file: Path | None) -> "Progress":
        """Where an earlier start came to, or the clean outcome."""
        fresh = cls(clean.pred.copy(), np.where(clean.broken, -1, STANDS).astype(np.int8))
        if file is None or not file.exists():
            return fresh
        try:
            table = read_table(file, {"pred": "integer", "stage": "integer"})
            where = read_provenance(table, file, None)
            pred = table["pred"].to_numpy().copy()
            stage = table["stage"].to_numpy().copy()
            found = cls(pred, stage, int(where["done"]), int(where["samples"]))
        except (UsageError, KeyError):
            return fresh
        return found if len(found.pred) == len(fresh.pred) else fresh


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
    """Attack the samples that are right when clean; predictions are made anew from the images that the attack found.

    An ensemble's later stages see only what its earlier ones left.

    Args:
        name: of the attack.
        attack: the attack; one with `stages(classes)` is an ensemble.
        eps: radius.
        model: in any mode.
        split: the data.
        clean: the outcome without an attack.
        options: norm, batch size, whether images are wanted.
        device: where it runs.
        file: where it is saved how far it came, the images beside it; None: not at all.

    Returns:
        The outcome, and the images [n,C,H,W] of all samples where they are to be saved.

    Raises:
        RunError: an image outside the ball or [0,1].
    """
    stages = getattr(attack, "stages", lambda classes: {name: attack})(_classes(model, split, device))
    if "pgd-margin" in stages:
        log.info("%s: with fewer than 4 classes PGD by the margin loss stands in for APGD-T", name)
    state = Progress.begin(clean, file)
    figures = dict[str, float]()
    images = _first_images(split, clean, options, file, state) if options.save_adversarial else None
    place = {int(index): row for row, index in enumerate(clean.index)}
    for number, (stage, run) in enumerate(stages.items()):
        if number >= state.done:
            rows = clean.index[state.stage >= number]
            label = f"{name} {stage}" if len(stages) > 1 else name
            _run_stage(label, run, rows, number, eps, model, split, state, place, images, options, device, file)
        figures[stage] = float(np.mean(state.stage > number))
    outcome = Outcome(
        name, options.norm, eps, clean.index, state.pred, state.broken, figures if len(stages) > 1 else {}
    )
    return outcome, images


def _run_stage(
    label: str,
    attack: Attack,
    rows: np.ndarray,
    number: int,
    eps: float,
    model: nn.Module,
    split: Split,
    state: Progress,
    place: dict[int, int],
    images: Tensor | None,
    options: EvaluateOptions,
    device: torch.device,
    file: Path | None,
) -> None:
    """Attack `rows`, in batches that do not depend on what this stage has broken so far."""
    saved = time.monotonic()
    pause = SAVE_SECONDS
    with progress(f"{label} eps {eps:.4g}", len(rows), state.samples) as bar:
        for batch in split.batches(rows[state.samples :], options.batch_size, device):
            x_adv = attack(model, batch.x, batch.y, batch.index)
            check_inside(label, x_adv, batch.x, eps, options.norm)
            with frozen(model), torch.no_grad():
                found = model(x_adv).argmax(1).cpu().numpy()
            own = np.array([place[index] for index in batch.index.tolist()])
            state.pred[own] = found
            state.stage[own[found != batch.y.cpu().numpy()]] = number
            if images is not None:
                images[own] = x_adv.cpu()
            state.samples += len(own)
            bar.advance(len(own))
            if file is not None and time.monotonic() - saved > pause:
                begun = time.monotonic()
                state.save(file, images)
                saved = time.monotonic()
                if images is not None:  # those of a large set take their time
                    pause = max(SAVE_SECONDS, SLOWER * (saved - begun))
    state.done = number + 1
    state.samples = 0
    if file is not None:
        state.save(file, images)


def check_saved(spec: str, split: Split, rows: np.ndarray, options: EvaluateOptions) -> None:
    """Refuse saved images that leave a ball or [0,1], or are not of the samples, before anything is attacked.

    Raises:
        UsageError: any of these.
    """
    for eps in options.eps or () if spec.startswith("file:") else ():
        name, attack = load_attack(spec, norm=options.norm, seed=options.seed, eps=eps)
        for batch in split.batches(rows, options.batch_size):
            x_adv = attack(torch.nn.Identity(), batch.x, batch.y, batch.index)
            try:
                check_inside(name, x_adv, batch.x, eps, options.norm)
            except RunError as error:
                raise UsageError(str(error)) from None


def check_inside(name: str, x_adv: Tensor, x: Tensor, eps: float, norm: str) -> None:
    """Refuse images outside the ball or [0,1]."""
    delta = (x_adv - x).double()
    reach = lengths(delta).max() if norm == "l2" else delta.abs().max()
    if not (float(reach) <= eps + TOLERANCE * max(1.0, eps) and 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1):
        raise RunError(
            f"attack {quote(name)} left the {norm} ball of {eps:.4g} or [0, 1]: it reached {float(reach):.9g}"
        )


def _classes(model: nn.Module, split: Split, device: torch.device) -> int:
    batch = next(split.batches(np.arange(min(2, len(split))), 2, device))
    with frozen(model), torch.no_grad():
        return model(batch.x).shape[1]


def _first_images(split: Split, clean: Outcome, options: EvaluateOptions, file: Path | None, state: Progress) -> Tensor:
    """The images that an earlier start came to; without them the clean ones, and the attack begins anew."""
    if file is not None and state.done + state.samples and file.with_suffix(".safetensors").exists():
        found = load_images(file.with_suffix(".safetensors"))["x"]
        if len(found) == len(clean.index):
            return found
    fresh = Progress.begin(clean, None)
    state.pred = fresh.pred
    state.stage = fresh.stage
    state.done = 0
    state.samples = 0
    return torch.cat([batch.x.contiguous() for batch in split.batches(clean.index, options.batch_size)])
