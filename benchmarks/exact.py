"""What an exact scoring pass costs beside the bare forward and input-only backward on the same batches."""

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import ratio
from easycoreset.data.images import memory_split
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard


def run() -> list[dict]:
    """All measures of the default pass, against a loop that computes the gradient and throws it away."""
    rng = np.random.default_rng(0)
    size = 2000
    split = memory_split(
        "train",
        rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8),
        np.arange(size) % 10,
        [str(i) for i in range(size)],
    )
    names = tuple(map(str, range(10)))
    card = ModelCard(model="thin-resnet", shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, class_names=names)
    model = build_model(card).to(memory_format=torch.channels_last).eval()
    measures = load_hardness(())
    batches = list(split.batches(np.arange(size), 250))

    def bare() -> None:
        for batch in batches:
            x = batch.x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(model(x), batch.y, reduction="sum"), x)

    def ours() -> None:
        measure_all(model, lambda: batches, size, measures)

    def alone() -> None:
        measure_all(model, lambda: batches, size, load_hardness(["aign"]))

    model.requires_grad_(False)
    what = "an exact pass with all its measures / bare forward + input-only backward (thin-resnet)"
    beside = "an exact pass with all its measures / with AIGN alone (thin-resnet)"
    return [ratio(what, 1.10, ours, bare, repeats=25), ratio(beside, 1.10, ours, alone, repeats=25)]
