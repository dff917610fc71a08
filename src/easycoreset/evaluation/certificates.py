"""Certified radii by randomized smoothing (Cohen, Rosenfeld & Kolter, ICML 2019)."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import special
from torch import Tensor, nn

from easycoreset.data import Split
from easycoreset.data.keyed_random import make_generator
from easycoreset.errors import require
from easycoreset.evaluation.attack_run import SAVE_INTERVAL
from easycoreset.evaluation.measurements import Entries, Measurement
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.members import load_member, spell_member
from easycoreset.models.modes import device_of, frozen
from easycoreset.parquet import read_provenance, read_table, with_provenance, write_table
from easycoreset.progress import progress
from easycoreset.proportions import wilson_interval

SMOOTHING = {"smoothing": "easycoreset.evaluation.certificates:Smoothing"}
DRAWS = 100  # noises that are drawn at once, so that the draws do not depend on the model's batch size
CURVE_POINTS = 50
RADII = (0.1, 0.2, 0.3, 0.4, 0.5)  # in the summary, besides the curve
NOT_CERTIFIED = -1.0


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """The smoothed classifier: it returns the class that a model predicts most often for an image with Gaussian noise.

    Attributes:
        sigma: standard deviation of the noise, in pixel space.
        n0: number of noisy images that choose the class.
        n: number of further noisy images that bound its probability.
        alpha: upper bound on the probability that a certificate is wrong.
        norm: norm of the radius; only l2 exists.
        seed: seed of the noise.
    """

    sigma: float = 0.25
    n0: int = 100
    n: int = 1000
    alpha: float = 0.001
    norm: Literal["l2"] = "l2"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.sigma > 0 and math.isfinite(self.sigma), "certify", "of sigma > 0", f"sigma={self.sigma}")
        require(self.n0 >= 1, "certify", "of n0 >= 1", f"n0={self.n0}")
        require(self.n >= self.n0, "certify", f"of n >= n0={self.n0}", f"n={self.n}")
        require(0 < self.alpha < 1, "certify", "of alpha in (0, 1)", f"alpha={self.alpha}")
        enough = math.ceil(math.log(self.alpha) / math.log(0.5))
        require(self.n >= enough, "certify", f"of n >= {enough}, or nothing can be certified", f"n={self.n}")

    @property
    def max_radius(self) -> float:
        """The radius of an image of which all `n` noisy images have the class."""
        return self.radius(self.n)

    @property
    def min_count(self) -> int:
        """How many of the `n` must have the class for a certificate."""
        return next(count for count in range(self.n // 2, self.n + 1) if self.radius(count) >= 0)

    def radius(self, count: int) -> float:
        """The certified l2 radius sigma Phi^-1(p), where p is the lower bound of the class's probability.

        The bound is that of Clopper & Pearson (1934), one-sided; the radius is negative if p < 1/2.

        Args:
            count: how many of `n` noisy images have the class.
        """
        bound = float(special.betaincinv(count, self.n - count + 1, self.alpha)) if count else 0.0
        return self.sigma * float(special.ndtri(bound)) if bound >= 0.5 else NOT_CERTIFIED

    def certify(self, model: nn.Module, x: Tensor, y: int, index: int, batch_size: int) -> tuple[int, int, float]:
        """Certify one image.

        If the chosen class is not `y`, the image is wrong at every radius, so its radius is not measured. Counting
        stops once so many noisy images have other classes that no certificate is possible; the result is the same as
        with all `n`.

        Args:
            model: in eval mode, maps [B,C,H,W] to logits.
            x: [C,H,W].
            y: the label.
            index: of the sample; it keys the noise.
            batch_size: noisy images in a pass.

        Returns:
            The class (-1 if none is certified), the number of noisy images that were classified, and the radius
            (negative if nothing is certified or the class is not `y`).
        """
        generator = make_generator("certify", self.seed, index)
        chosen = int(self._count_classes(model, x, self.n0, generator, batch_size).argmax())
        if chosen != y:
            return chosen, self.n0, NOT_CERTIFIED
        hits = drawn = 0
        spare = self.n - self.min_count
        while drawn < self.n and drawn - hits <= spare:
            size = min(DRAWS, self.n - drawn)
            hits += int(self._count_classes(model, x, size, generator, batch_size)[chosen])
            drawn += size
        radius = self.radius(hits) if drawn == self.n else NOT_CERTIFIED
        return chosen if radius >= 0 else -1, self.n0 + drawn, radius

    def _count_classes(
        self, model: nn.Module, x: Tensor, count: int, generator: torch.Generator, batch_size: int
    ) -> npt.NDArray[np.int64]:
        """How many of `count` noisy images have each class, [K]."""
        counts: list[Tensor] = []
        for start in range(0, count, DRAWS):
            noise = torch.randn(min(DRAWS, count - start), *x.shape, generator=generator).to(x.device)
            for part in noise.split(batch_size):
                logits = model(x + self.sigma * part)
                counts.append(torch.bincount(logits.argmax(1), minlength=logits.shape[1]))
        return torch.stack(counts).sum(0).cpu().numpy()


def load_smoothing(spec: str, seed: int) -> tuple[str, Smoothing]:
    """The canonical spelling of `sigma=S:n0=N0:n=N:alpha=A`, and the certificate.

    Raises:
        UsageError: an unknown option, or a wrong value.
    """
    smoothing = load_member("certify", f"smoothing:{spec}", SMOOTHING)
    others = [part for part in spell_member("smoothing", smoothing).split(":")[1:] if not part.startswith("sigma=")]
    name = ":".join([f"sigma={smoothing.sigma:g}", *others])
    return name, replace(smoothing, seed=seed)


def plan_certificates(specs: Sequence[str], seed: int) -> Measurement:
    """The certificates that are asked for, as a measurement.

    Raises:
        UsageError: a wrong one, or one that is named twice.
    """
    smoothings = dict(load_smoothing(spec, seed) for spec in specs)
    require(len(smoothings) == len(specs), "certify", "named once each", list(specs))
    entries: Entries = {(name,): partial(certify_split, name, smoothing) for name, smoothing in smoothings.items()}
    return Measurement("certificates", ("certificate",), entries, partial(summarise_certificates, smoothings))


def certify_split(
    name: str, smoothing: Smoothing, model: nn.Module, split: Split, clean: Outcome, batch_size: int, file: Path
) -> pa.Table:
    """Certify the evaluated samples one by one; a call that was stopped goes on.

    Returns:
        A table with the columns `index, label, certificate, pred` (-1: abstained), `draws, radius` (null where it is
        wrong or abstained).
    """
    rows = np.zeros((len(clean.index), 3))  # class, draws, radius
    done = 0
    if file.exists():
        table = read_table(file, {"pred": "number", "draws": "number", "radius": "number"})
        done = int(read_provenance(table, file, None)["done"])
        rows = np.stack([table[column].to_numpy() for column in ("pred", "draws", "radius")], axis=1).copy()
    last_save = time.monotonic()
    with progress(f"certifying {name}", len(rows), done) as bar, frozen(model), torch.no_grad():
        for batch in split.batches(clean.index[done:], batch_size, device_of(model)):
            for x, y, index in zip(batch.x, batch.y.tolist(), batch.index.tolist(), strict=True):
                rows[done] = smoothing.certify(model, x, y, index, batch_size)
                done += 1
                bar.advance(1)
                if time.monotonic() - last_save > SAVE_INTERVAL:
                    table = pa.table({"pred": rows[:, 0], "draws": rows[:, 1], "radius": rows[:, 2]})
                    write_table(with_provenance(table, {"done": done}), file)
                    last_save = time.monotonic()
    radius = rows[:, 2]
    return pa.table(
        {
            "index": clean.index,
            "label": split.labels[clean.index],
            "certificate": pa.array([name] * len(rows)).dictionary_encode(),
            "pred": rows[:, 0].astype(np.int64),
            "draws": rows[:, 1].astype(np.int64),
            "radius": pa.array(radius, mask=radius < 0),
        }
    )


def summarise_certificates(smoothings: dict[str, Smoothing], table: pa.Table) -> list[dict[str, Any]]:
    """Certified accuracy of each certificate: the share that is right with at least a radius, with 95% intervals."""
    names = np.array(table["certificate"].to_pylist())
    radii = table["radius"].to_numpy(zero_copy_only=False).astype(float)
    radii[np.isnan(radii)] = NOT_CERTIFIED
    summaries: list[dict[str, Any]] = []
    for name in dict.fromkeys(names.tolist()):
        smoothing = smoothings.get(name) or load_smoothing(name, 0)[1]
        radius, pred = radii[names == name], table["pred"].to_numpy()[names == name]
        curve = np.linspace(0, smoothing.max_radius, CURVE_POINTS)
        summaries.append(
            {
                "certificate": name,
                "sigma": smoothing.sigma,
                "n": smoothing.n,
                "alpha": smoothing.alpha,
                "norm": smoothing.norm,
                "samples": len(radius),
                "abstained": float(np.mean(pred == -1)),
                "max_radius": smoothing.max_radius,
                "mean_radius": float(np.maximum(radius, 0).mean()),
                "certified": [certified_at(radius, at) for at in (0.0, *RADII)],
                "curve": [certified_at(radius, float(at)) for at in curve],
            }
        )
    return summaries


def certified_at(radius: npt.NDArray[np.floating], at: float) -> dict[str, float]:
    """The share of samples whose radius is at least `at`, with a 95% Wilson interval."""
    count, n = int((radius >= at).sum()), len(radius)
    low, high = wilson_interval(count, n)
    return {"radius": at, "accuracy": count / n, "low": low, "high": high}
