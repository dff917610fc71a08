"""Exact AIGN against a naive loop over single samples, and against the closed form of a softmax-linear model."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import close32
from easycoreset import UsageError, input_gradient_norms, score
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.digits_cnn import digits_cnn
from easycoreset.models.folding import RTOL, fold_batch_norm
from easycoreset.models.modes import frozen
from easycoreset.models.normalize import Normalize


@pytest.fixture(scope="module")
def cnn(digits):
    """A CNN with batch norm, trained for a few steps so that its statistics are not trivial."""
    torch.manual_seed(0)
    model = nn.Sequential(Normalize((0.3,), (0.4,)), digits_cnn(1, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    split = digits.splits["train"]
    for batch in split.batches(np.arange(640), 64):
        optimizer.zero_grad()
        F.cross_entropy(model(batch.x), batch.y).backward()
        optimizer.step()
    return model


def naive(model, x, y):
    model = model.eval()
    norms = []
    for i in range(len(x)):
        one = x[i : i + 1].clone().requires_grad_()
        F.cross_entropy(model(one), y[i : i + 1]).backward()
        norms.append(one.grad.square().sum().sqrt().item())
    model.zero_grad()
    return np.array(norms)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_equals_the_naive_loop(cnn, digits, batch_size):
    split = digits.splits["train"]
    whole = next(split.batches(np.arange(200), 200))
    measures = load_hardness(["aign", "aign:dtype=float64"])
    columns = measure_all(cnn, lambda: split.batches(np.arange(200), batch_size), 200, measures)
    double = cnn.double()
    expected = naive(double, whole.x.double(), whole.y)
    norms = input_gradient_norms(double, whole.x.double(), whole.y)
    cnn.float()
    np.testing.assert_allclose(norms.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(columns["aign_float64"], expected, rtol=1e-5)
    assert close32(columns["aign"], expected)


def test_equals_the_closed_form_of_a_softmax_linear_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, 6)).double()
    x = torch.rand(40, 3, 5, 5, dtype=torch.float64)
    y = torch.randint(0, 6, (40,))
    error = F.softmax(model(x), 1) - F.one_hot(y, 6)
    expected = (error @ model[1].weight).norm(dim=1)
    torch.testing.assert_close(input_gradient_norms(model, x, y), expected.detach(), rtol=1e-9, atol=0)


def test_leaves_no_trace(cnn, digits):
    batch = next(digits.splits["train"].batches(np.arange(32), 32))
    cnn.train()
    cnn[1][1].eval()
    cnn[0].mean.grad = None
    before = {k: v.clone() for k, v in cnn.state_dict().items()}
    modes = [m.training for m in cnn.modules()]
    weight = cnn[1][0].weight
    weight.grad = torch.full_like(weight, 7)
    frozen_layer = cnn[1][3].weight.requires_grad_(False)
    input_gradient_norms(cnn, batch.x, batch.y)
    assert modes == [m.training for m in cnn.modules()]
    assert all(torch.equal(before[k], v) for k, v in cnn.state_dict().items())
    assert (weight.grad == 7).all() and weight.requires_grad and not frozen_layer.requires_grad
    weight.grad = None
    frozen_layer.requires_grad_(True)


def test_variants_are_what_they_say(cnn, digits):
    split = digits.splits["train"]
    specs = ["aign", "aign:norm=l1", "aign:norm=linf", "aign:squared=true", "aign:space=model", "aign:dtype=bfloat16"]
    columns = measure_all(cnn, lambda: split.batches(np.arange(300), 100), 300, load_hardness(specs))
    np.testing.assert_allclose(columns["aign_squared"], columns["aign"] ** 2, rtol=1e-5)
    np.testing.assert_allclose(columns["aign_model"], columns["aign"] * 0.4, rtol=1e-4)
    assert (columns["aign_linf"] <= columns["aign"]).all() and (columns["aign"] <= columns["aign_l1"]).all()
    ratio = columns["aign_bfloat16"] / columns["aign"]
    assert 0.5 < np.median(ratio) < 2 and not np.allclose(columns["aign_bfloat16"], columns["aign"], rtol=1e-4)


def test_overlap_of_the_easiest_between_float32_and_float64(tmp_path):
    scores = score(data="digits", epochs=10, hardness=["aign", "aign:dtype=float64"], out=tmp_path / "run")
    single = scores["aign"]
    double = scores["aign_float64"]
    for share in (0.1, 0.3):
        k = int(share * len(single))
        overlap = len(np.intersect1d(np.argsort(single)[:k], np.argsort(double)[:k])) / k
        print(f"overlap of the easiest {share:.0%} between float32 and float64: {overlap:.4f}")
        assert overlap > 0.97
    assert close32(single, double)


def test_space_model_needs_our_normalisation(tmp_path):
    with pytest.raises(UsageError, match="aign:space=model.*normalisation"):
        score(
            data="digits",
            model="tests.support.factories:plain",
            epochs=1,
            hardness="aign:space=model",
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


class Looking(nn.Module):
    """Looks at its input's values, which tracing cannot follow."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) if x.mean() > 0 else self.model(-x)


class Noisy(Looking):
    def forward(self, x):
        return self.model(x + 0.1 * torch.randn(1, 1, 8, 8))


class Whitened(Looking):
    """Its statistics take no part in the gradient, which a trace does not know."""

    def forward(self, x):
        with torch.no_grad():
            mean = x.mean((1, 2, 3), keepdim=True)
            std = x.std((1, 2, 3), keepdim=True)
        return self.model((x - mean) / std)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Straight(Looking):
    """A backward pass of its own, which a trace does not know either."""

    def forward(self, x):
        return self.model(Rounded.apply(x))


def test_batch_norm_is_folded_where_it_is_the_same(cnn, digits):
    x = next(digits.splits["train"].batches(np.arange(50), 50)).x
    before = {name: value.clone() for name, value in cnn.state_dict().items()}
    with frozen(cnn):
        folded = fold_batch_norm(cnn, x[:2])
        assert folded is not cnn and not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(x), cnn(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in cnn.state_dict().items())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for model in (Looking(cnn), Noisy(cnn), Whitened(cnn), Straight(cnn), linear):
        with frozen(model):
            assert fold_batch_norm(model, x[:2]) is model


def test_batch_norm_is_folded_where_values_lie_at_kinks():
    """Every unit is 0 but for rounding: in float32 the copy's have other signs, and so other gradients."""
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.rand(1, 1, 3, 3).expand(2, 1, 3, 3)
    with torch.no_grad():
        units = copy.deepcopy(nn.Sequential(convolution, norm)).double().eval()(x.double())[0].flatten()
        norm.bias -= units.float()
    model = nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    with frozen(model):
        folded = fold_batch_norm(model, x)
    assert folded is not model
    norms = [input_gradient_norms(network, x, torch.zeros(2, dtype=torch.int64)) for network in (folded, model)]
    assert not torch.allclose(*norms, rtol=RTOL)  # compared in float32 the copy would be refused


def test_the_pass_does_without_batch_norm_unless_all_layers_are_looked_at(cnn, digits, monkeypatch):
    split = digits.splits["train"]
    calls = []
    forward = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: calls.append(1) or forward(self, x))

    def count(specs, layer=None):
        calls.clear()
        measure_all(cnn, lambda: split.batches(np.arange(100), 10), 100, load_hardness(specs), feature_layer=layer)
        return len(calls)

    norms = sum(isinstance(module, nn.BatchNorm2d) for module in cnn.modules())
    last = next(name for name, module in reversed(list(cnn.named_modules())) if isinstance(module, nn.Linear))
    assert count(["aign", "loss"]) == norms  # where the copy is tried
    assert count(["cheap"], last) == 2 * norms and count(["grand_full"]) >= 10 * norms
