"""Variance of gradients: the change of the input gradient of the true class's logit over training."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easycoreset.hardness import WIDE_MEMORY, Hardness, Outputs, Workload
from easycoreset.hardness.folds import Fold

CHUNK = 256  # samples whose moments are updated at a time


@dataclass(frozen=True, kw_only=True)
class VoG(Hardness):
    """Mean over pixels of the standard deviation over epochs of dz_y/dx, standardised within the class (column `vog`).

    Agarwal et al. 2022, whose code averages channels first; `vog_raw` is the value before standardisation.
    """

    name = "vog"
    column = "vog_raw"
    gradient = "true_logit"
    expensive = True
    is_wide = True
    standardised = True

    def describe_cost(self, workload: Workload) -> str:
        """Its cost, as text for users."""
        memory = min(WIDE_MEMORY, 20 * workload.samples * workload.pixels) / 2**20
        disk = workload.epochs * workload.parameters * 4 / 2**20
        return (
            f"{workload.epochs} passes forward and back over {workload.samples} samples after training, up to "
            f"{memory:.0f} MB of memory, and {disk:.0f} MB for the weights of the scored epochs"
        )

    def count_passes(self, epochs: int) -> int:
        """One in every epoch."""
        return epochs

    def measure(self, outputs: Outputs) -> Tensor:
        """The gradients of one epoch, [B, C*H*W]."""
        assert outputs.gradient is not None
        return outputs.gradient.flatten(1)

    def fold(self) -> Fold:
        """The mean over pixels of the standard deviation over epochs."""
        return DeviationPerPixel()


class DeviationPerPixel:
    """The mean over the values of a sample of their standard deviation (ddof 0) over observed epochs (Welford 1962).

    It is computed where the values are: on a GPU they stay there.

    >>> fold = DeviationPerPixel()
    >>> fold.add(torch.tensor([[0.0, 0.0]])); fold.add(torch.tensor([[2.0, 6.0]]))
    >>> fold.result().tolist()
    [2.0]
    """

    def __init__(self) -> None:
        self.mean = self.m2 = torch.zeros(0, 0)
        self.count = torch.zeros(0)

    def add(self, values: Tensor) -> None:
        """Add one epoch, [n, d]; a sample with a value that is not finite is not observed in it."""
        dtype = torch.float32 if values.device.type == "mps" else torch.float64  # mps has no float64
        if not len(self.count):
            self.mean, self.m2 = (torch.zeros(values.shape, dtype=dtype, device=values.device) for _ in range(2))
            self.count = torch.zeros(len(values), dtype=dtype, device=values.device)
        for part in torch.arange(len(values), device=values.device).split(CHUNK):
            new = values[part].to(dtype)
            observed = torch.isfinite(new).all(1, keepdim=True)
            self.count[part] += observed.squeeze(1)
            delta = torch.where(observed, new - self.mean[part], 0)
            self.mean[part] += delta / self.count[part, None].clamp_min(1)
            self.m2[part] += torch.where(observed, delta * (new - self.mean[part]), 0)

    def result(self) -> npt.NDArray[np.float32]:
        deviation = (self.m2 / self.count.clamp_min(1)[:, None]).sqrt().mean(1)
        return torch.where(self.count > 0, deviation, float("nan")).float().cpu().numpy()
