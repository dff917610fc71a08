"""Minimal-norm attacks: within 1% of known margins, and never below what they can be."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from easycoreset import choose, evaluate, load_model, score, train
from easycoreset.attacks import MARGINS, load_attack
from easycoreset.attacks.fmn import perturbation_norms
from easycoreset.hardness.boundary import measure_boundary
from easycoreset.members import load_member
from support.messages import named

CASES = [("fmn", "linf"), ("fmn", "l2"), ("ddn", "l2"), ("deepfool", "linf"), ("deepfool", "l2")]


def load(name, norm):
    return load_member("margin", name, MARGINS, **({} if name == "ddn" else {"norm": norm}))


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_linear_margins_within_one_percent(name, norm, seed):
    """|w.x + b| / ||w||, by the dual norm; x so far inside [0,1] that the box is inactive."""
    torch.manual_seed(seed)
    x = 0.45 + 0.1 * torch.rand(100, 1, 5, 5)
    w = torch.randn(25)
    b = 0.1 * torch.randn(())
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 2))
    model[1].weight.data = torch.stack([-w / 2, w / 2])
    model[1].bias.data = torch.stack([-b / 2, b / 2])
    with torch.no_grad():
        y = model(x).argmax(1)
        known = (x.flatten(1) @ w + b).abs() / (w.abs().sum() if norm == "linf" else w.norm())
    x_adv = load(name, norm)(model, x, y, torch.arange(100))
    found = perturbation_norms(x_adv - x, norm)
    inside = known < (0.4 if norm == "linf" else 0.4 * w.norm() / w.abs().max())
    assert inside.float().mean() > 0.9
    with torch.no_grad():
        assert (model(x_adv).argmax(1) != y)[inside].all()
    assert (found >= known * (1 - 1e-4))[inside].all()  # a found point is an upper bound
    assert (found <= known * 1.01 + 1e-6)[inside].all(), (found / known)[inside].max()


@pytest.mark.parametrize(("name", "norm"), [("fmn", "l2"), ("fmn", "linf"), ("ddn", "l2"), ("boundary", "l2")])
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_small_logits_of_many_classes_have_the_closed_forms_distance(name, norm, classes, scale):
    """min_k (z_y - z_k) / norm(w_y - w_k), by the dual norm, whatever the weights are multiplied by."""
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    model[1].weight.data *= scale
    model[1].bias.data *= scale
    x = 0.5 + 0.02 * torch.randn(200, 1, 8, 8)
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(1)
    weight = model[1].weight.detach()
    dual = torch.linalg.vector_norm(weight[y][:, None] - weight, 1 if norm == "linf" else 2, dim=2)
    known = ((logits.amax(1, keepdim=True) - logits) / dual).scatter(1, y[:, None], float("inf")).amin(1)
    if name == "boundary":
        found = -measure_boundary(model, x, y)
    else:
        x_adv = load(name, norm)(model, x, y, torch.arange(200))
        found = perturbation_norms(x_adv - x, norm)
        with torch.no_grad():
            assert (model(x_adv).argmax(1) != y).all()
    assert (found >= known * (1 - 1e-3) - 1e-6).all()
    assert (found <= known * 1.01 + 1e-6).all(), (found / known).max()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_on_a_real_model_they_are_valid_and_the_model_stays(name, norm, scored, digits):
    model = load_model(scored)
    batch = next(digits.splits["test"].batches(np.arange(100), 100))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x_adv = load(name, norm)(model, batch.x, batch.y, batch.index)
    with torch.no_grad():
        right = model(batch.x).argmax(1) == batch.y
        broken = model(x_adv).argmax(1) != batch.y
    assert 0 <= x_adv.min() <= x_adv.max() <= 1 and broken.float().mean() > (0.7 if name == "deepfool" else 0.98)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()) and not model.training
    size = perturbation_norms(x_adv - batch.x, norm)
    if name == "fmn":  # PGD at a slightly larger radius breaks them too, FMN is not beaten by much
        eps = float(size[right & broken].median())
        pgd = load_attack("pgd:steps=50:loss=margin:restarts=2", norm=norm, eps=eps)[1](
            model, batch.x, batch.y, batch.index
        )
        with torch.no_grad():
            share = (model(pgd).argmax(1) != batch.y)[right].float().mean()
        assert float(share) < 0.55  # half of them would be as good


def test_fmn_is_tighter_than_deepfool(scored, digits):
    model = load_model(scored)
    batch = next(digits.splits["test"].batches(np.arange(100), 100))
    sizes = {}
    broken = torch.ones(100, dtype=torch.bool)
    for name in ("fmn", "ddn", "deepfool"):
        x_adv = load(name, "l2")(model, batch.x, batch.y)
        sizes[name] = perturbation_norms(x_adv - batch.x, "l2")
        with torch.no_grad():
            broken &= model(x_adv).argmax(1) != batch.y
    medians = {name: float(size[broken].median()) for name, size in sizes.items()}
    assert medians["fmn"] <= medians["deepfool"] and abs(medians["fmn"] - medians["ddn"]) < 0.05 * medians["ddn"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("margins") / "run"
    train(data="digits", updates=100, out=folder)
    return folder


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_evaluate_writes_margins_and_their_curve(trained, tmp_path, norm):
    eps = [0.05, 0.15] if norm == "linf" else [0.3, 0.9]
    given = {"data": "digits", "weights": trained, "eps": eps, "norm": norm, "limit": 80, "out": tmp_path}
    result = evaluate(**given, attack=["pgd:loss=margin"], margins="fmn")
    table = pq.read_table(tmp_path / "margins.parquet").to_pandas()
    assert list(table.columns) == ["index", "label", "attack", "norm", "distance_upper_bound", "found"]
    assert len(table) == 80 and (table["distance_upper_bound"][result.clean.broken] == 0).all()
    (line,) = json.loads((tmp_path / "evaluation.json").read_text())["summary"]["margins"]
    distance = table["distance_upper_bound"].fillna(np.inf).to_numpy()
    assert line["median_upper_bound"] == pytest.approx(np.sort(distance)[40])
    curve = line["curve"]["accuracy_upper_bound"]
    assert curve[0] == pytest.approx(result.clean.accuracy) and curve == sorted(curve, reverse=True)
    for outcome in result.attacked:  # PGD at an eps breaks no more than those whose distance is below it
        assert outcome.accuracy - 0.1 <= np.mean(distance > outcome.eps) <= outcome.accuracy + 0.03
    before = (tmp_path / "predictions.parquet").read_bytes()
    evaluate(**given, attack=["pgd:loss=margin"], margins=["fmn"] if norm == "linf" else ["fmn", "ddn"])
    assert (tmp_path / "predictions.parquet").read_bytes() == before
    again = pq.read_table(tmp_path / "margins.parquet").to_pandas()
    assert set(again["attack"]) == ({"fmn"} if norm == "linf" else {"fmn", "ddn"})


def test_margins_on_the_command_line(trained, tmp_path, cli):
    common = (
        "evaluate",
        "--data",
        "digits",
        "--weights",
        trained,
        "--eps",
        0.1,
        "--attack",
        "fgsm",
        "--limit",
        20,
        "--out",
    )
    ran = cli(*common, tmp_path / "a", "--margins")
    assert ran.code == 0 and named(ran.out, "fmn", "linf")
    ran = cli(*common, tmp_path / "b", "--margins", "ddn")
    assert ran.code == 2 and named(ran.err, "'ddn'", "l2", "linf")
    ran = cli(*common, tmp_path / "c", "--margins", "fnm")
    assert ran.code == 2 and named(ran.err, "'fnm'", "'fmn'")


def test_strict_makes_a_warning_an_error(tmp_path, cli):
    train(data="digits", updates=1, out=tmp_path / "model")  # no better than naming one class
    common = ("evaluate", "--data", "digits", "--weights", tmp_path / "model", "--eps", 0.1, "--limit", 50, "--out")
    assert cli(*common, tmp_path / "a").code == 0
    ran = cli(*common, tmp_path / "b", "--strict")
    assert ran.code == 1 and "strict:" in ran.err and (tmp_path / "b" / "evaluation.json").exists()


def test_boundary_is_minus_the_distance_or_the_loss(tmp_path, digits):
    scores = score(data="digits", epochs=2, hardness=["aign", "boundary:steps=30"], out=tmp_path)
    model = load_model(tmp_path)
    split = digits.splits["train"]
    batch = next(split.batches(np.arange(250), 250))
    with torch.no_grad():
        logits = model(batch.x)
    right = (logits.argmax(1) == batch.y).numpy()
    loss = torch.nn.functional.cross_entropy(logits, batch.y, reduction="none").numpy()
    values = scores["boundary"][:250]
    np.testing.assert_allclose(values[~right], loss[~right], rtol=1e-4, atol=1e-6)
    x_adv = load_member("margin", "fmn:steps=30", MARGINS, norm="l2")(model, batch.x, batch.y)
    with torch.no_grad():
        found = (model(x_adv).argmax(1) != batch.y).numpy() & right
    sizes = perturbation_norms(x_adv - batch.x, "l2").numpy()
    assert np.isclose(values[found], -sizes[found], rtol=1e-2).mean() > 0.97 and (values[right] < 0).all()
    assert "boundary" not in pq.read_table(tmp_path / "trajectory" / "0001.parquet").column_names
    kept = choose(scores, method="deepfool", fraction=0.1).keep
    assert scores["boundary"][kept].min() >= scores["boundary"][~kept].max()
    assert "boundary" not in score(data="digits", epochs=1, out=tmp_path / "plain").columns
    alone = score(data="digits", epochs=2, hardness="boundary:steps=5", out=tmp_path / "alone")
    assert list(alone.columns) == ["boundary"] and (alone.n_obs == 1).all()
