"""What happened to each sample, clean and attacked, and the accuracy with its interval."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from easycoreset.attacks import Attack
from easycoreset.attacks.ball import lengths
from easycoreset.console import progress
from easycoreset.data import Split
from easycoreset.errors import RunError
from easycoreset.models.modes import frozen
from easycoreset.options import EvaluateOptions

TOLERANCE = 2e-6  # relative to the larger of 1 and the ball's radius, for float32's rounding


@dataclass(frozen=True)
class Outcome:
    """What an attack did to each sample.

    Attributes:
        attack: its spelling, or clean.
        norm: linf, l2, or empty for clean.
        eps: radius.
        index: [n] of the samples.
        pred: [n] class predicted.
        broken: [n] whether it is wrong; a sample that is wrong when clean is broken at every eps.
    """

    attack: str
    norm: str
    eps: float
    index: np.ndarray
    pred: np.ndarray
    broken: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of samples that are not broken."""
        return float(1 - self.broken.mean())


def wilson(outcome: Outcome) -> dict[str, Any]:
    """The outcome's accuracy with a 95% Wilson interval, as JSON values."""
    n, right = len(outcome.index), int((~outcome.broken).sum())
    interval = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    return {"attack": outcome.attack, "norm": outcome.norm, "eps": outcome.eps, "accuracy": right / n,
            "low": float(interval.low), "high": float(interval.high), "samples": n}  # fmt: skip


def predict_split(model: nn.Module, split: Split, rows: np.ndarray, batch_size: int) -> Outcome:
    """Predict the clean samples `rows`."""
    preds: list[Tensor] = []
    with frozen(model), torch.no_grad():
        for batch in split.batches(rows, batch_size, next(model.parameters()).device):
            logits = model(batch.x)
            if not torch.isfinite(logits).all():
                raise RunError("finite logits: the model's logits are not finite, so no accuracy means anything")
            preds.append(logits.argmax(1).cpu())
    pred = torch.cat(preds).numpy()
    return Outcome("clean", "", 0.0, rows, pred, pred != split.labels[rows])


def attack_split(name: str, attack: Attack, eps: float, model: nn.Module, split: Split, clean: Outcome,
                 options: EvaluateOptions, device: torch.device) -> tuple[Outcome, Tensor | None]:  # fmt: skip
    """Attack the samples that are right when clean; predictions are made anew from the images that the attack found.

    Returns:
        The outcome, and the images [n,C,H,W] of all samples where they are to be saved.

    Raises:
        RunError: an image outside the ball or [0,1].
    """
    pred, broken = clean.pred.copy(), clean.broken.copy()
    place = {int(index): row for row, index in enumerate(clean.index)}
    images = _clean_images(split, clean.index, options.batch_size) if options.save_adversarial else None
    with progress(f"{name} eps {eps:.4g}", int((~broken).sum())) as bar:
        for batch in split.batches(clean.index[~clean.broken], options.batch_size, device):
            x_adv = attack(model, batch.x, batch.y, batch.index)
            check_inside(name, x_adv, batch.x, eps, options.norm)
            with frozen(model), torch.no_grad():
                found = model(x_adv).argmax(1).cpu().numpy()
            rows = np.array([place[index] for index in batch.index.tolist()])
            pred[rows], broken[rows] = found, found != batch.y.cpu().numpy()
            if images is not None:
                images[rows] = x_adv.cpu()
            bar.advance(len(rows))
    return Outcome(name, options.norm, eps, clean.index, pred, broken), images


def check_inside(name: str, x_adv: Tensor, x: Tensor, eps: float, norm: str) -> None:
    """Refuse images outside the ball or [0,1]."""
    delta = (x_adv - x).double()
    reach = lengths(delta).max() if norm == "l2" else delta.abs().max()
    if not (float(reach) <= eps + TOLERANCE * max(1.0, eps) and 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1):
        raise RunError(f"attack {name!r} left the {norm} ball of {eps:.4g} or [0, 1]: it reached {float(reach):.9g}")


def _clean_images(split: Split, rows: np.ndarray, batch_size: int) -> Tensor:
    return torch.cat([batch.x.contiguous() for batch in split.batches(rows, batch_size)])
