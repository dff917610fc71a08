"""Variance of gradients: the change of the input gradient of the true class's logit over training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from easycoreset.attacks.ball import gradient_of
from easycoreset.data import Batch
from easycoreset.hardness import Workload
from easycoreset.models.modes import frozen, full_float32
from easycoreset.tables import Ints

MEMORY = 2**30  # bytes of running moments


@dataclass(frozen=True, kw_only=True)
class VoG:
    """Mean over pixels of the standard deviation over epochs of dz_y/dx, standardised within the class (column `vog`).

    Agarwal et al. 2022, whose code averages channels first; `vog_raw` is the value before standardisation. The
    moments run over the weights of the scored epochs, for one part of the samples at a time to limit memory.
    """

    version: ClassVar[int] = 1
    name: ClassVar[str] = "vog"
    expensive: ClassVar[bool] = True

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        memory = min(MEMORY, 16 * workload.samples * workload.pixels) / 2**20
        disk = workload.epochs * workload.parameters * 4 / 2**20
        return (
            f"{workload.epochs} passes forward and back over {workload.samples} samples after training, up to "
            f"{memory:.0f} MB of memory, and {disk:.0f} MB for the weights of the scored epochs"
        )


def split_rows(rows: Ints, pixels: int) -> list[Ints]:
    """Split rows into parts whose running moments fit into memory."""
    size = max(MEMORY // (16 * pixels), 1)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def measure_vog(
    models: Iterable[nn.Module],
    batches: Callable[[], Iterable[Batch]],
    rows: Ints,
    advance: Callable[[int], None] = lambda samples: None,
) -> np.ndarray:
    """`vog_raw` of some samples, [n] in the order of `rows`, by Welford's algorithm; NaN if never finite.

    Args:
        models: the models of the scored epochs, in order.
        batches: called for the clean batches of `rows`, once per model.
        rows: [n] indices.
        advance: called with the number of samples of each finished batch.
    """
    row_of = {int(index): row for row, index in enumerate(rows)}
    mean = m2 = torch.zeros(0)
    count = torch.zeros(len(rows), dtype=torch.float64)
    for model in models:
        with frozen(model), full_float32():
            for batch in batches():
                x = batch.x.detach().requires_grad_()
                true_logit = model(x).gather(1, batch.y[:, None])
                gradient = gradient_of(true_logit.sum(), x).detach().flatten(1).double().cpu()
                if not len(mean):
                    mean, m2 = (torch.zeros(len(rows), gradient.shape[1], dtype=torch.float64) for _ in range(2))
                position = torch.tensor([row_of[index] for index in batch.index.tolist()])
                finite = torch.isfinite(gradient).all(1)
                position = position[finite]
                gradient = gradient[finite]
                count[position] += 1
                delta = gradient - mean[position]
                mean[position] += delta / count[position, None]
                m2[position] += delta * (gradient - mean[position])
                advance(len(batch.index))
    deviation = (m2 / count.clamp_min(1)[:, None]).sqrt().mean(1)
    return torch.where(count > 0, deviation, float("nan")).float().numpy()
