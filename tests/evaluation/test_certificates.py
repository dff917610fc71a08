"""Randomized smoothing: against closed forms, and its promise counted."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from easycoreset import UsageError, evaluate, train
from easycoreset.evaluation import certificates
from easycoreset.evaluation.certificates import Smoothing, certified_at, load_smoothing
from easycoreset.objectives import load_objective
from easycoreset.parquet import read_table
from support.messages import named

SHAPE = (1, 2, 4)


def linear(weight, bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], len(weight)))
    model[1].weight.data, model[1].bias.data = weight, bias
    return model.eval()


@pytest.fixture(scope="module")
def two_classes():
    torch.manual_seed(0)
    return linear(torch.randn(2, 8), torch.tensor([0.1, 0.0]))


def distance(model, x):
    """Signed l2 distance [N] to the boundary of a linear model of two classes, positive on the side of class 0."""
    layer = model[1]
    difference = layer.weight[0] - layer.weight[1]
    return ((x.flatten(1) @ difference + layer.bias[0] - layer.bias[1]) / difference.norm()).detach().numpy()


def test_the_radius_of_a_linear_model_converges_to_its_distance(two_classes):
    x = torch.rand(20, *SHAPE)
    for image, d in zip(x, distance(two_classes, x), strict=True):
        smoothing = Smoothing(sigma=0.5, n=50_000, alpha=0.01)
        with torch.no_grad():
            pred, _, radius = smoothing.certify(two_classes, image, int(d < 0), 3, 1000)
        if abs(d) < 1:
            assert pred == int(d < 0) and radius == pytest.approx(abs(d), abs=0.02)
        else:
            assert 0.95 < radius <= smoothing.max_radius


def test_no_certificate_exceeds_the_distance_beyond_what_is_promised(two_classes):
    """Counted over 2,000 images, at an alpha that is large enough to be counted."""
    alpha, images = 0.05, 2000
    x = torch.rand(images, *SHAPE)
    smoothing = Smoothing(sigma=0.5, n0=20, n=100, alpha=alpha)
    d = distance(two_classes, x)
    with torch.no_grad():
        radii = [smoothing.certify(two_classes, image, int(d[row] < 0), row, 100)[2] for row, image in enumerate(x)]
    wrong = int((np.array(radii) > np.abs(d)).sum())
    low, high = stats.binom.interval(0.9999, images, alpha)
    assert 0 < wrong <= high
    assert wrong > 0.3 * low  # the bound is not idle: it is near its level


def test_a_class_below_one_half_is_abstained_from():
    """Three classes that are equally probable at the origin; a linear model of two at its boundary."""
    angles = torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3])
    three = linear(torch.stack([angles.cos(), angles.sin(), *[0 * angles] * 6], 1), torch.zeros(3))
    smoothing = Smoothing(sigma=0.3, n=1000)
    with torch.no_grad():
        for index in range(10):
            x = torch.zeros(SHAPE)
            chosen = int(three(smoothing.sigma * torch.randn(1, *SHAPE))[0].argmax())
            results = [smoothing.certify(three, x, y, index, 250) for y in range(3)]
            (own,) = [result for result in results if result[0] == -1]
            assert own[2] < 0 and own[1] < smoothing.n0 + smoothing.n and chosen in (0, 1, 2)  # stopped early
            assert sorted(result[1] for result in results)[:2] == [smoothing.n0] * 2  # wrong ones are not counted on


def test_stopping_early_says_what_all_would(two_classes, monkeypatch):
    """At images near the boundary, whose counts lie on both sides of one half."""
    layer = two_classes[1]
    normal = ((layer.weight[0] - layer.weight[1]) / (layer.weight[0] - layer.weight[1]).norm()).view(SHAPE).detach()
    x = torch.rand(60, *SHAPE)
    steps = torch.linspace(-0.15, 0.15, 60).view(-1, 1, 1, 1)
    x = x - torch.from_numpy(distance(two_classes, x)).float().view(-1, 1, 1, 1) * normal + steps * normal
    smoothing = Smoothing(sigma=0.5, n0=10, n=1000, alpha=0.01)
    with torch.no_grad():
        early = [smoothing.certify(two_classes, image, 0, row, 100) for row, image in enumerate(x)]
        monkeypatch.setattr(Smoothing, "min_count", 0)
        whole = [smoothing.certify(two_classes, image, 0, row, 100) for row, image in enumerate(x)]
    assert [(a[0], a[2]) for a in early] == [(b[0], b[2]) for b in whole]
    assert any(a[1] < b[1] for a, b in zip(early, whole, strict=True)) and {a[0] for a in early} >= {-1, 0}


def test_the_bound():
    smoothing = Smoothing(sigma=1.0, n=200, alpha=0.02)
    for count in (103, 120, 150, 199, 200):
        p = stats.beta.ppf(smoothing.alpha, count, smoothing.n - count + 1)
        expected = stats.norm.ppf(p) if p >= 0.5 else -1
        assert smoothing.radius(count) == pytest.approx(expected)
    assert smoothing.radius(smoothing.min_count) >= 0 > smoothing.radius(smoothing.min_count - 1)
    assert Smoothing(sigma=0.25).max_radius == pytest.approx(0.25 * 2.4625, abs=1e-3)


@pytest.mark.parametrize("p", [0.51, 0.6, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("n", [100, 1000])
def test_its_coverage(p, n):
    """The bound of a probability lies above it in a share of at most alpha of 20,000 counts, and not in none."""
    draws, alpha = 20_000, 0.05
    smoothing = Smoothing(sigma=1.0, n0=10, n=n, alpha=alpha)
    radius_of = np.array([smoothing.radius(count) for count in range(n + 1)])
    counts = np.random.default_rng(n).binomial(n, p, draws)
    exceed = radius_of[counts] > stats.norm.ppf(p)
    assert exceed.mean() <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / draws)
    assert exceed.any() or p**n > alpha  # where all counts are n more often than alpha, n itself says less


def test_noise_is_that_of_the_index_whatever_the_batch(two_classes):
    x = torch.rand(SHAPE)
    near = (
        x
        - torch.from_numpy(distance(two_classes, x[None])).float()
        * 0.9
        * (
            (two_classes[1].weight[0] - two_classes[1].weight[1]).view(SHAPE)
            / (two_classes[1].weight[0] - two_classes[1].weight[1]).norm()
        ).detach()
    )
    y = int(distance(two_classes, near[None])[0] < 0)
    with torch.no_grad():
        one, other = (Smoothing(n=300).certify(two_classes, near, y, 5, size) for size in (7, 300))
        elsewhere = {Smoothing(n=300).certify(two_classes, near, y, index, 300)[2] for index in range(20)}
        reseeded = Smoothing(n=300, seed=1).certify(two_classes, near, y, 5, 300)
    assert one == other and len(elsewhere) > 5 and one[2] in elsewhere and reseeded != one


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("sigma=0", ("sigma > 0", "sigma=0")),
        ("sigma=-1", ("sigma > 0",)),
        ("sigma=nan", ("sigma",)),
        ("n0=100:n=50", ("n0=100", "n=50")),
        ("alpha=0", ("alpha in (0, 1)",)),
        ("alpha=1", ("alpha in (0, 1)",)),
        ("n0=1:n=5", ("n >= 10", "n=5")),
        ("norm=linf", ("norm", "l2", "linf")),
        ("sigmas=1", ("sigmas", "sigma")),
    ],
)
def test_wrong_certificates(spec, words, scored, tmp_path):
    with pytest.raises(UsageError) as raised:
        evaluate(data="digits", weights=scored, attack="noise", eps=[0.1], certify=spec, out=tmp_path / "e")
    assert named(str(raised.value), *words), raised.value
    assert not (tmp_path / "e").exists()


def test_the_objective_adds_noise(scored, digits):
    from easycoreset import load_model

    model = load_model(scored).eval()
    batch = next(digits.splits["train"].batches(np.arange(50), 50))
    name, objective = load_objective("noise:sigma=0.5")
    losses = objective(model, batch.x, batch.y, torch.Generator().manual_seed(3))
    noise = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(3))
    expected = F.cross_entropy(model(batch.x + 0.5 * noise), batch.y, reduction="none")
    torch.testing.assert_close(losses, expected)
    assert name == "noise:sigma=0.5"
    for wrong in ("0", "-1", "inf"):
        with pytest.raises(UsageError, match="sigma"):
            load_objective(f"noise:sigma={wrong}")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy") / "model"
    train(data="digits", epochs=6, objective="noise:sigma=0.25", out=folder)
    return folder


def test_certified_accuracy_of_an_evaluation(noisy, scored, tmp_path, cli):
    out = tmp_path / "e"
    arguments = ("--data", "digits", "--limit", 60, "--attack", "noise:draws=1", "--eps", 0.1)
    ran = cli("evaluate", *arguments, "--weights", noisy, "--certify", "sigma=0.25:n=200", "--out", out)
    assert ran.code == 0 and "Smoothed with noise of sigma 0.25" in " ".join(ran.out.split())
    rows = read_table(out / "certificates.parquet", {"pred": "integer"}).to_pandas()
    (found,) = json.loads((out / "evaluation.json").read_text())["summary"]["certificates"]
    assert len(rows) == found["samples"] == 60 and found["certificate"] == "sigma=0.25:n=200"
    radius = rows["radius"].fillna(-1).to_numpy()
    for point in [*found["certified"], *found["curve"]]:
        assert point["accuracy"] == pytest.approx((radius >= point["radius"]).mean())
        assert point["low"] <= point["accuracy"] <= point["high"]
    assert found["abstained"] == pytest.approx((rows["pred"] == -1).mean())
    assert found["max_radius"] == load_smoothing("n=200", 0)[1].max_radius >= radius.max()
    assert (radius[(rows["pred"] != rows["label"]).to_numpy()] == -1).all()
    assert found["certified"][0]["accuracy"] > 0.7 > 0.3 > found["curve"][-1]["accuracy"]
    assert cli("report", "--out", out).code == 0 and "Certified radii" in (out / "report.html").read_text()
    plain = evaluate(
        data="digits", weights=scored, limit=60, attack="noise", eps=[0.1], certify="n=200", out=tmp_path / "plain"
    )
    (other,) = json.loads((tmp_path / "plain" / "evaluation.json").read_text())["summary"]["certificates"]
    assert plain.clean.accuracy > 0.8 and other["mean_radius"] < found["mean_radius"]  # it saw no noise in training


def test_a_call_that_was_stopped_goes_on_image_by_image(noisy, tmp_path, monkeypatch):
    given = {"data": "digits", "limit": 30, "attack": "noise", "eps": [0.1], "weights": noisy, "certify": "n=100"}
    evaluate(**given, out=tmp_path / "whole")
    monkeypatch.setattr(certificates, "SAVE_INTERVAL", 0)
    certify, seen = Smoothing.certify, []

    def stopped(self, model, x, y, index, batch_size):
        seen.append(index)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return certify(self, model, x, y, index, batch_size)

    monkeypatch.setattr(Smoothing, "certify", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(**given, out=tmp_path / "parts")
    evaluate(**given, out=tmp_path / "parts")
    assert len(seen) == 31 and len(set(seen)) == 30
    files = [tmp_path / name / "certificates.parquet" for name in ("whole", "parts")]
    assert read_table(files[0], {}).to_pydict() == read_table(files[1], {}).to_pydict()


def test_certified_at():
    radius = np.array([-1.0, 0.0, 0.2, 0.2, 0.7])
    assert [certified_at(radius, at)["accuracy"] for at in (0.0, 0.2, 0.3, 1.0)] == [0.8, 0.6, 0.2, 0.0]
