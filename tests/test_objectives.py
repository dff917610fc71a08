"""Objectives: equal to their clean form at eps 0, and TRADES against the reference algorithm written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from easycoreset import UsageError, load_model
from easycoreset.objectives import OBJECTIVES, load_objective


@pytest.fixture
def model(scored):
    model = load_model(scored).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0  # two calls see the same running statistics
    return model


@pytest.fixture(scope="module")
def batch(digits):
    return next(digits.splits["train"].batches(np.arange(64), 64))


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_eps_0_it_is_cross_entropy(name, model, batch):
    spec = name if name == "standard" else f"{name}:eps=0"
    objective = load_objective(spec)[1]
    loss = objective(model, batch.x, batch.y, None, generator())
    torch.testing.assert_close(loss, F.cross_entropy(model(batch.x), batch.y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_scale_samples_and_the_model_keeps_its_mode(name, model, batch):
    objective = load_objective(name)[1]
    weight = torch.zeros(64)
    weight[:32] = 2
    weighted = objective(model, batch.x, batch.y, weight, generator())
    assert weighted.ndim == 0 and weighted.requires_grad and model.training
    ones = objective(model, batch.x, batch.y, torch.ones(64), generator())
    torch.testing.assert_close(ones, objective(model, batch.x, batch.y, None, generator()), rtol=1e-4, atol=1e-6)
    assert not torch.isclose(weighted, ones)


def reference_examples(model, x, steps, eps, step_size):
    """The authors' inner loop: the clean distribution computed anew in every step, with gradient."""
    model.eval()
    criterion = nn.KLDivLoss(reduction="sum")
    x_adv = x.detach() + 0.001 * torch.randn(x.shape, generator=generator())
    for _ in range(steps):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss = criterion(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1))
        (grad,) = torch.autograd.grad(loss, [x_adv])
        x_adv = x_adv.detach() + step_size * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
        x_adv = torch.clamp(x_adv, 0.0, 1.0)
    model.train()
    return x_adv


def test_trades_examples_are_bit_identical_to_the_reference(model, batch):
    objective = load_objective("trades:steps=10:eps=0.1:step_size=0.02")[1]
    expected = reference_examples(model, batch.x, 10, 0.1, 0.02)
    assert torch.equal(objective.perturb(model, batch.x, generator()), expected)
    assert (expected - batch.x).abs().max() > 0.09


def test_trades_loss_is_the_reference_loss(model, batch):
    objective = load_objective("trades:eps=0.1")[1]
    x_adv = objective.perturb(model, batch.x, generator())
    kl = nn.KLDivLoss(reduction="sum")
    natural = model(batch.x)
    robust = kl(F.log_softmax(model(x_adv), 1), F.softmax(natural, 1)) / len(batch.x)
    expected = F.cross_entropy(natural, batch.y) + 6 * robust
    torch.testing.assert_close(objective(model, batch.x, batch.y, None, generator()), expected, rtol=1e-5, atol=1e-6)


def test_trades_gradient_stays_finite_where_probabilities_underflow():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    layer[1].weight.data = torch.tensor([[2000.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -2000.0, 0]])
    x, y = torch.rand(8, 1, 2, 2) * 0.5 + 0.5, torch.zeros(8, dtype=torch.long)
    plain = nn.KLDivLoss(reduction="sum")(F.log_softmax(layer(x * 0.9), 1), F.softmax(layer(x), 1))
    plain_gradient = torch.autograd.grad(plain, layer[1].weight)[0]
    loss = load_objective("trades:eps=0.1")[1](layer, x, y, None, generator())
    gradient = torch.autograd.grad(loss, layer[1].weight)[0]
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert torch.isnan(plain_gradient).any() or torch.isfinite(plain_gradient).all()


@pytest.mark.parametrize(
    ("spec", "eps", "match"),
    [
        ("trade", None, "did you mean 'trades'"),
        ("standard", 0.1, "objective 'standard' takes no option 'eps'"),
        ("trades:eps=0.1", 0.2, "eps is given twice"),
        ("trades:beta=-1", None, "beta must be >= 0; got -1.0"),
        ("trades:steps=0", None, "steps must be >= 1; got 0"),
        ("trades:eps=2", None, r"eps must be in \[0, 1\]; got 2.0"),
    ],
)
def test_wrong_options(spec, eps, match):
    with pytest.raises(UsageError, match=match):
        load_objective(spec, eps)
