"""Attacks: a contract that the whole table keeps, and known optima on linear models."""

import numpy as np
import pytest
import torch
from torch import nn

from easycoreset import UsageError, load_model
from easycoreset.attacks import ATTACKS, load_attack
from easycoreset.attacks.ball import l2_norms

CHEAP = {"apgd": "apgd:iterations=5", "autoattack": "autoattack:iterations=5:queries=20", "square": "square:queries=30"}
NORMS = {"linf": 0.1, "l2": 0.7}


def distance(delta, norm):
    return delta.flatten(1).abs().amax(1) if norm == "linf" else l2_norms(delta)


@pytest.fixture(scope="module")
def trained(scored):
    return load_model(scored)


@pytest.fixture(scope="module")
def batch(digits):
    return next(digits.splits["test"].batches(np.arange(120), 120))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "spec",
    [
        *(CHEAP.get(name, name) for name in ATTACKS if name != "transfer"),  # which has tests of its own
        "pgd:loss=margin:restarts=3:steps=5",
        "pgd:loss=targeted:restarts=3:steps=5",
        "fgsm:loss=margin",
    ],
)
class TestContract:
    def test_stays_in_the_ball_and_in_range(self, spec, norm, trained, batch):
        for eps in (0.0, 0.003, NORMS[norm], 0.9):
            attack = load_attack(spec, eps=eps, norm=norm)[1]
            x_adv = attack(trained, batch.x, batch.y, batch.index)
            assert x_adv.shape == batch.x.shape and x_adv.min() >= 0 and x_adv.max() <= 1
            assert distance((x_adv - batch.x).double(), norm).max() <= eps + 1e-6
            if eps == 0:
                assert torch.equal(x_adv, batch.x)

    def test_leaves_the_model_as_it_was(self, spec, norm, trained, batch):
        trained.train()
        trained[1][1].eval()
        parameter = next(trained.parameters())
        parameter.grad = torch.full_like(parameter, 3)
        before = {k: v.clone() for k, v in trained.state_dict().items()}
        modes = [m.training for m in trained.modules()]
        load_attack(spec, eps=NORMS[norm], norm=norm)[1](trained, batch.x, batch.y, batch.index)
        assert modes == [m.training for m in trained.modules()]
        assert all(torch.equal(before[k], v) for k, v in trained.state_dict().items())
        assert (parameter.grad == 3).all() and all(p.requires_grad for p in trained.parameters())
        parameter.grad = None
        trained.eval()

    @pytest.mark.slow
    def test_neither_batch_size_nor_order_changes_a_sample(self, spec, norm, trained, batch):
        if spec in CHEAP.values():
            return  # the package draws its random numbers batch by batch
        model = trained.double()
        x = batch.x.double()
        attack = load_attack(spec, eps=NORMS[norm], norm=norm, seed=5)[1]
        whole = attack(model, x, batch.y, batch.index)
        order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
        for size in (1, 7, 50):
            parts = [attack(model, x[r], batch.y[r], batch.index[r]) for r in order.split(size)]
            torch.testing.assert_close(torch.cat(parts)[order.argsort()], whole, rtol=0, atol=1e-9)
        trained.float()

    def test_same_seed_same_result(self, spec, norm, trained, batch):
        attack = load_attack(spec, eps=NORMS[norm], norm=norm, seed=5)[1]
        first, second = (attack(trained, batch.x, batch.y, batch.index) for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["ce", "margin", "targeted"])
def test_pgd_finds_the_known_margin_of_a_linear_model(norm, loss):
    """The margin of a binary linear classifier is |w.x + b| / ||w||, by the dual norm."""
    torch.manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(60, 1, 4, 4, dtype=torch.float64)  # so far inside that the box is inactive
    w = torch.randn(16, dtype=torch.float64)
    b = -0.3
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    model[1].weight.data = torch.stack([-w / 2, w / 2])
    model[1].bias.data = torch.tensor([-b / 2, b / 2], dtype=torch.float64)
    y = model(x).argmax(1)
    margin = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    for eps in margin.quantile(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)):
        attack = load_attack("pgd", eps=float(eps), norm=norm)[1]
        x_adv = load_attack(f"pgd:loss={loss}", eps=float(eps), norm=norm)[1](model, x, y)
        broken = model(x_adv).argmax(1) != y
        assert broken[margin < eps * 0.99].all() and not broken[margin > eps].any()
        assert attack.steps == 20


def test_early_drop_gives_the_outcomes_of_a_plain_loop(trained, batch):
    """The plain loop attacks everything to the end and counts a sample broken at any iterate."""
    model = trained.double()
    x = batch.x.double()
    y = batch.y
    eps = 0.12
    seed = 0
    attack = load_attack("pgd:steps=10", eps=eps, seed=seed)[1]
    found = model(attack(model, x, y, batch.index)).argmax(1) != y
    from easycoreset.attacks.ball import random_point

    adv = random_point(x, batch.index, eps, "linf", seed, 0)
    broken = torch.zeros(len(y), dtype=torch.bool)
    for step in range(11):
        adv.requires_grad_()
        logits = model(adv)
        broken |= logits.argmax(1) != y
        if step < 10:
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), adv)
            moved = adv.detach() + eps / 4 * gradient.sign()
            adv = torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)
    assert torch.equal(found, broken) and 0.2 < broken.double().mean() < 0.99
    trained.float()


def test_accuracy_falls_to_zero_as_eps_grows(trained, batch):
    accuracy = []
    for eps in (0.0, 0.05, 0.1, 0.2, 0.5, 1.0):
        x_adv = load_attack("pgd", eps=eps)[1](trained, batch.x, batch.y, batch.index)
        accuracy.append((trained(x_adv).argmax(1) == batch.y).float().mean().item())
    assert accuracy == sorted(accuracy, reverse=True) and accuracy[0] > 0.9 and accuracy[-1] == 0


def test_restarts_only_break_more(trained, batch):
    model = trained.double()
    x = batch.x.double()
    broken = [
        model(load_attack(f"pgd:steps=3:restarts={n}", eps=0.1)[1](model, x, batch.y, batch.index)).argmax(1) != batch.y
        for n in (1, 4)
    ]
    assert (broken[1] | ~broken[0]).all() and broken[1].sum() >= broken[0].sum()
    trained.float()


def test_margin_loss_works_where_cross_entropy_sees_nothing(trained, batch):
    """Logits x 1e4: p_y is exactly 1, the cross-entropy has no gradient, and CE-PGD reports robustness that is not there."""

    class Confident(nn.Module):
        def forward(self, x):
            return trained(x) * 1e4

    right = trained(batch.x).argmax(1) == batch.y
    rates = {}
    for loss in ("ce", "margin"):
        x_adv = load_attack(f"pgd:loss={loss}", eps=0.2)[1](Confident(), batch.x[right], batch.y[right])
        rates[loss] = (trained(x_adv).argmax(1) == batch.y[right]).float().mean().item()
    assert rates["margin"] < 0.05 < 0.5 < rates["ce"]


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        ("pdg", {}, "'pdg'.*'pgd'"),
        ("pgd:step=3", {}, "'step'.*'steps'"),
        ("pgd:steps=0", {}, r"steps.*\b0$"),
        ("pgd:restarts=0", {}, r"restarts.*\b0$"),
        ("pgd:steps=x", {}, "steps.*'x'"),
        ("pgd:steps=", {}, "'pgd:steps='.*'steps'"),
        ("pgd:steps=3:steps=4", {}, "'pgd:steps=3:steps=4'.*'steps'"),
        ("pgd", {"eps": 1.5}, r"eps.*\b1\.5"),
        ("pgd", {"norm": "l1"}, "norm.*linf, l2.*'l1'"),
        ("pgd:eps=0.1", {"eps": 0.2}, r"eps.*0\.1.*0\.2"),
        ("noise:draws=0", {}, r"draws.*\b0$"),
    ],
)
def test_wrong_options(spec, options, match):
    with pytest.raises(UsageError, match=match):
        load_attack(spec, **options)


def test_targeted_restarts_climb_to_one_class_after_another(trained, batch):
    with torch.no_grad():
        logits = trained(batch.x)
    second = logits.scatter(1, batch.y[:, None], -torch.inf).argsort(1, descending=True)[:, 1]
    x_adv = load_attack("pgd:loss=targeted:restarts=2:steps=10", eps=0.02)[1](trained, batch.x, batch.y, batch.index)
    with torch.no_grad():
        robust = trained(x_adv).argmax(1) == batch.y
        before, after = (z.gather(1, second[:, None]).squeeze(1) for z in (logits, trained(x_adv)))
    assert robust.float().mean() > 0.5 and (after > before)[robust].float().mean() > 0.9
