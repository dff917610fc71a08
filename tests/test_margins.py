"""Minimal-norm attacks: within 1% of known margins, and never below what they can be."""

import numpy as np
import pytest
import torch
from torch import nn

from easycoreset import load_model
from easycoreset.attacks import MARGINS, load_attack
from easycoreset.attacks.fmn import measure
from easycoreset.members import load_member

CASES = [("fmn", "linf"), ("fmn", "l2"), ("ddn", "l2"), ("deepfool", "linf"), ("deepfool", "l2")]


def load(name, norm):
    return load_member("margin", name, MARGINS, **({} if name == "ddn" else {"norm": norm}))


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_linear_margins_within_one_percent(name, norm, seed):
    """|w.x + b| / ||w||, by the dual norm; x so far inside [0,1] that the box is inactive."""
    torch.manual_seed(seed)
    x = 0.45 + 0.1 * torch.rand(100, 1, 5, 5)
    w, b = torch.randn(25), 0.1 * torch.randn(())
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2))
    model[1].weight.data, model[1].bias.data = torch.stack([-w / 2, w / 2]), torch.stack([-b / 2, b / 2])
    with torch.no_grad():
        y = model(x).argmax(1)
        known = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    x_adv = load(name, norm)(model, x, y, torch.arange(100))
    found = measure(x_adv - x, norm)
    inside = known < (0.4 if norm == "linf" else 0.4 * w.norm() / w.abs().max())
    assert inside.float().mean() > 0.9
    with torch.no_grad():
        assert (model(x_adv).argmax(1) != y)[inside].all()
    assert (found >= known * (1 - 1e-4))[inside].all()  # a found point is an upper bound
    assert (found <= known * 1.01 + 1e-6)[inside].all(), (found / known)[inside].max()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_on_a_real_model_they_are_valid_and_the_model_stays(name, norm, scored, digits):
    model, batch = load_model(scored), next(digits.splits["test"].batches(np.arange(100), 100))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x_adv = load(name, norm)(model, batch.x, batch.y, batch.index)
    with torch.no_grad():
        right = model(batch.x).argmax(1) == batch.y
        broken = model(x_adv).argmax(1) != batch.y
    assert 0 <= x_adv.min() <= x_adv.max() <= 1 and broken.float().mean() > (0.7 if name == "deepfool" else 0.98)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()) and not model.training
    size = measure(x_adv - batch.x, norm)
    if name == "fmn":  # PGD at a slightly larger radius breaks them too, FMN is not beaten by much
        eps = float(size[right & broken].median())
        pgd = load_attack("pgd:steps=50:loss=margin:restarts=2", norm=norm, eps=eps)[1](
            model, batch.x, batch.y, batch.index
        )
        with torch.no_grad():
            share = (model(pgd).argmax(1) != batch.y)[right].float().mean()
        assert float(share) < 0.55  # half of them would be as good


def test_fmn_is_tighter_than_deepfool(scored, digits):
    model, batch = load_model(scored), next(digits.splits["test"].batches(np.arange(100), 100))
    sizes, broken = {}, torch.ones(100, dtype=torch.bool)
    for name in ("fmn", "ddn", "deepfool"):
        x_adv = load(name, "l2")(model, batch.x, batch.y)
        sizes[name] = measure(x_adv - batch.x, "l2")
        with torch.no_grad():
            broken &= model(x_adv).argmax(1) != batch.y
    medians = {name: float(size[broken].median()) for name, size in sizes.items()}
    assert medians["fmn"] <= medians["deepfool"] and abs(medians["fmn"] - medians["ddn"]) < 0.05 * medians["ddn"]
