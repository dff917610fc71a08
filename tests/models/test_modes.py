"""Float32 is computed in full, however less was allowed, and the user's settings come back."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from easycoreset import input_gradient_norms, open_source
from easycoreset.attacks.pgd import PGD
from easycoreset.feature_extraction import compute_features, save_features
from easycoreset.models.last_layer import find_last_layer
from easycoreset.models.modes import _float32_settings, full_float32
from easycoreset.training.validation import accuracy

BACKENDS = torch.backends
NEW = hasattr(BACKENDS.cudnn, "conv")


def read():
    return [getattr(owner, name) for owner, name, _ in _float32_settings()]


def allow(way):
    if way in ("high", "medium"):
        torch.set_float32_matmul_precision(way)
    elif way == "old names":
        BACKENDS.cudnn.allow_tf32 = True
        BACKENDS.cuda.matmul.allow_tf32 = True
    elif way == "everything":
        BACKENDS.fp32_precision = "tf32"
    elif way == "convolutions":
        BACKENDS.cudnn.conv.fp32_precision = "tf32"
        BACKENDS.cuda.matmul.fp32_precision = "tf32"


@pytest.fixture(params=["defaults", "high", "medium", "old names", *(["everything", "convolutions"] if NEW else [])])
def allowed(request):
    before = read()
    allow(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True
    if NEW:
        BACKENDS.fp32_precision = "none"
    for (owner, name, _), value in zip(_float32_settings(), before, strict=True):
        setattr(owner, name, value)


def test_float32_is_full_inside_and_as_it_was_outside(allowed):
    before = read()
    assert allowed == "defaults" or before != [full for _, _, full in _float32_settings()]
    with pytest.raises(ZeroDivisionError), full_float32():
        assert read() == [full for _, _, full in _float32_settings()]
        with full_float32():
            pass
        assert read() == [full for _, _, full in _float32_settings()]
        raise ZeroDivisionError
    assert read() == before


class Spy(nn.Linear):
    """Notes the settings under which it is computed."""

    def forward(self, x):
        self.seen.append(read())
        return super().forward(x)


def test_what_is_measured_is_measured_in_full(allowed, tmp_path):
    """Gradients, features, those of PGD examples too, and validation with its attack."""
    model = nn.Sequential(nn.Flatten(), Spy(64, 10)).eval()
    split = open_source("digits").splits["train"]
    cpu, rows = torch.device("cpu"), np.arange(8)
    batch = next(split.batches(rows, 8, cpu))
    setup = cast(Any, SimpleNamespace(split=split, device=cpu, options=SimpleNamespace(batch_size=4)))
    model[1].seen = []
    layer = find_last_layer(model, batch.x, None)
    full = [value for _, _, value in _float32_settings()]
    for probes, measure in (  # calls that only look for the last layer
        (0, lambda: input_gradient_norms(model, batch.x, batch.y)),
        (0, lambda: compute_features(model, batch, layer)),
        (1, lambda: save_features(model, split, tmp_path, kind="adversarial", model_name="spy", device=cpu, eps=0.1)),
        (0, lambda: accuracy(model, setup, rows, PGD(eps=0.1, steps=2))),
    ):
        model[1].seen = []
        measure()
        assert len(model[1].seen) > probes and all(seen == full for seen in model[1].seen[probes:])
