"""Objectives: equal to their clean form at eps 0, and TRADES against the reference algorithm written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from easycoreset import UsageError, load_model
from easycoreset.objectives import OBJECTIVES, Adversarial, LogitObjective, check_losses, load_objective


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


def boosted(logits, y):
    """MART's clean form, by hand."""
    p = logits.softmax(1)
    others = p.scatter(1, y[:, None], 0).amax(1)
    return (-p.gather(1, y[:, None]).squeeze(1).log() - (1 - others).log()).mean()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_eps_0_it_is_its_clean_form(name, model, batch):
    spec = {"standard": name, "noise": "noise:sigma=1e-9"}.get(name, f"{name}:eps=0")
    objective = load_objective(spec)[1]
    loss = objective(model, batch.x, batch.y, generator()).mean()
    logits = model(batch.x)
    expected = boosted(logits, batch.y) if name == "mart" else F.cross_entropy(logits, batch.y)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["standard", "trades", "pgd-at", "fgsm-rs"])
def test_label_smoothing(name, model, batch):
    spec = f"{name}:label_smoothing=0.1" + ("" if name == "standard" else ":eps=0")
    loss = load_objective(spec)[1](model, batch.x, batch.y, generator()).mean()
    expected = F.cross_entropy(model(batch.x), batch.y, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def plain_pgd(model, x, y, start, eps, steps, step_size):
    """PGD by cross-entropy in eval mode, written out."""
    model.eval()
    x_adv = start
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y, reduction="sum"), x_adv)
        x_adv = torch.clamp(torch.min(torch.max(x_adv.detach() + step_size * grad.sign(), x - eps), x + eps), 0, 1)
    model.train()
    return x_adv


def test_pgd_at_and_fgsm_rs_are_cross_entropy_at_their_examples(model, batch):
    for name, eps, steps, step_size in (("pgd-at", 0.1, 10, 0.025), ("fgsm-rs", 0.1, 1, 0.125)):
        start = batch.x + eps * (torch.rand(batch.x.shape, generator=generator()) * 2 - 1)
        start = torch.clamp(torch.min(torch.max(start, batch.x - eps), batch.x + eps), 0, 1)
        x_adv = plain_pgd(model, batch.x, batch.y, start, eps, steps, step_size)
        loss = load_objective(name, eps)[1](model, batch.x, batch.y, generator()).mean()
        torch.testing.assert_close(loss, F.cross_entropy(model(x_adv), batch.y), rtol=1e-5, atol=1e-6)


def test_mart_is_its_published_loss(model, batch):
    start = batch.x + 0.001 * torch.randn(batch.x.shape, generator=generator())
    x_adv = plain_pgd(model, batch.x, batch.y, start, 0.1, 10, 0.025)
    clean = model(batch.x)
    adversarial = model(x_adv)
    p = clean.softmax(1)
    q = adversarial.softmax(1)
    own = p.gather(1, batch.y[:, None]).squeeze(1)
    divergence = ((p * (p.log() - q.log())).sum(1) * (1 - own)).mean()
    loss = load_objective("mart:eps=0.1")[1](model, batch.x, batch.y, generator()).mean()
    torch.testing.assert_close(loss, boosted(adversarial, batch.y) + 5 * divergence, rtol=1e-4, atol=1e-5)


def test_trades_reference_batch_norm_sees_x_twice(scored, batch):
    seen = {}
    for bn in ("once", "reference"):
        model = load_model(scored).train()
        loss = load_objective(f"trades:eps=0.1:bn={bn}")[1](model, batch.x, batch.y, generator()).mean()
        updates = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).num_batches_tracked
        seen[bn] = float(loss.detach()), int(updates)
    before = next(m for m in load_model(scored).modules() if isinstance(m, nn.BatchNorm2d)).num_batches_tracked
    assert seen["once"][1] == before + 2 and seen["reference"][1] == before + 3
    assert seen["once"][0] == pytest.approx(seen["reference"][0], rel=1e-5)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "standard"])
def test_confident_batches_give_finite_gradients(name):
    layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    layer[1].weight.data *= 1e4
    x = torch.rand(64, 1, 2, 2)
    y = torch.arange(64) % 3
    loss = load_objective(name, None if name == "noise" else 0.1)[1](layer, x, y, generator()).mean()
    assert torch.isfinite(loss) and torch.isfinite(torch.autograd.grad(loss, layer[1].weight)[0]).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_for_each_sample_and_the_model_keeps_its_mode(name, model, batch):
    objective = load_objective(name)[1]
    losses = objective(model, batch.x, batch.y, generator())
    assert losses.shape == (64,) and losses.requires_grad and model.training
    model.eval()  # no statistics of the batch: a sample's loss is then its own
    alone = objective(model, batch.x[:1], batch.y[:1], generator())
    torch.testing.assert_close(alone, objective(model, batch.x, batch.y, generator())[:1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_losses_follow_from_logits_at_the_examples_that_it_perturbs(name, model, batch):
    objective = load_objective(name)[1]
    assert isinstance(objective, LogitObjective) and isinstance(objective, Adversarial) == (name != "standard")
    losses = objective(model, batch.x, batch.y, generator())
    x_adv = batch.x if name == "standard" else objective.perturb(model, batch.x, batch.y, generator())
    torch.testing.assert_close(objective.logit_losses(model(batch.x), model(x_adv), batch.y), losses)


def test_what_is_no_loss_per_sample_is_refused():
    check_losses(torch.zeros(3), 3)
    for wrong in (torch.zeros(()), torch.zeros(2), 0.5):
        with pytest.raises(UsageError, match="objective"):
            check_losses(wrong, 3)


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
    assert torch.equal(objective.perturb(model, batch.x, batch.y, generator()), expected)
    assert (expected - batch.x).abs().max() > 0.09


def test_trades_loss_is_the_reference_loss(model, batch):
    objective = load_objective("trades:eps=0.1")[1]
    x_adv = objective.perturb(model, batch.x, batch.y, generator())
    kl = nn.KLDivLoss(reduction="sum")
    natural = model(batch.x)
    robust = kl(F.log_softmax(model(x_adv), 1), F.softmax(natural, 1)) / len(batch.x)
    expected = F.cross_entropy(natural, batch.y) + 6 * robust
    torch.testing.assert_close(objective(model, batch.x, batch.y, generator()).mean(), expected, rtol=1e-5, atol=1e-6)


def test_trades_gradient_stays_finite_where_probabilities_underflow():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    layer[1].weight.data = torch.tensor([[2000.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -2000.0, 0]])
    x = torch.rand(8, 1, 2, 2) * 0.5 + 0.5
    y = torch.zeros(8, dtype=torch.long)
    plain = nn.KLDivLoss(reduction="sum")(F.log_softmax(layer(x * 0.9), 1), F.softmax(layer(x), 1))
    plain_gradient = torch.autograd.grad(plain, layer[1].weight)[0]
    loss = load_objective("trades:eps=0.1")[1](layer, x, y, generator()).mean()
    gradient = torch.autograd.grad(loss, layer[1].weight)[0]
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    assert torch.isnan(plain_gradient).any() or torch.isfinite(plain_gradient).all()


@pytest.mark.parametrize(
    ("spec", "eps", "match"),
    [
        ("trade", None, "'trade'.*'trades'"),
        ("standard", 0.1, "'standard'.*'eps'"),
        ("trades:eps=0.1", 0.2, r"eps.*0\.1.*0\.2"),
        ("trades:beta=-1", None, r"beta.* -1\.0$"),
        ("trades:steps=0", None, "steps.* 0$"),
        ("trades:eps=2", None, r"eps.*\b2\.0$"),
    ],
)
def test_wrong_options(spec, eps, match):
    with pytest.raises(UsageError, match=match):
        load_objective(spec, eps)
