"""The exact AIGN pass beside a loop that computes every sample's gradient alone."""

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import ratio
from benchmarks.trades import draw, network
from easycoreset.data import Batch
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all

SIZE = 250


def run() -> list[dict]:
    """One batch of the pass; both give the same numbers, but where rounding moves a ReLU over its kink."""
    model = network().eval().requires_grad_(False)
    batch = draw(SIZE)
    measures = load_hardness(["aign"])

    def ours() -> np.ndarray:
        return measure_all(model, lambda: [batch], SIZE, measures)[measures[0].column]

    same = float(np.isclose(ours(), one_by_one(model, batch), rtol=1e-4, atol=1e-6).mean())
    what = "the exact AIGN pass / a loop of one gradient a sample (thin-resnet)"
    row = ratio(what, 0.75, ours, lambda: one_by_one(model, batch), repeats=9) | {"same": same}
    assert same >= 0.98
    return [row]


def one_by_one(model: torch.nn.Module, batch: Batch) -> list[float]:
    """L2 norm of each sample's input gradient, a forward and backward pass for each."""
    norms = []
    for x, y in zip(batch.x.split(1), batch.y.split(1), strict=True):
        x = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        norms.append(float(grad.norm()))
    return norms
