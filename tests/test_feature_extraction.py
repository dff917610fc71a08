"""Features once: what `score --save-features` writes, what the last-layer measures are, and what selectors find."""

import copy
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import close32
from easycoreset import RunError, Scores, UsageError, choose, load_model, score, select
from easycoreset.attacks.ball import project, random_point
from easycoreset.data import Split
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.last_layer import find_last_layer, float32_logits
from support.messages import named
from support.odd_models import HeadTwice, Plain, TiedWeights


@pytest.fixture(scope="module")
def featured(tmp_path_factory):
    """A folder that `score --save-features adversarial` wrote, two epochs."""
    folder = tmp_path_factory.mktemp("featured") / "run"
    score(data="digits", epochs=2, save_features="adversarial", out=folder)
    return folder


def last_input(model, x):
    """What goes into the last linear layer, by hand: the model is Normalize and a Sequential that ends with it."""
    normalize, body = model
    with torch.no_grad():
        return body[:-1](normalize(x))


def test_features_are_the_input_of_the_last_linear_layer(featured, digits):
    scores = Scores.read(featured / "scores.parquet")
    model = load_model(featured)
    batch = next(digits.splits["train"].batches(np.arange(1438), 1438))
    h = last_input(model, batch.x)
    assert scores.features.dtype == np.float16 and isinstance(scores.features, np.memmap) and scores.bias
    np.testing.assert_allclose(scores.features, h, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        p = model(batch.x).softmax(1)
    assert scores.probabilities.dtype == np.float32
    np.testing.assert_allclose(scores.probabilities, p, rtol=1e-4, atol=1e-6)
    record = json.loads((featured / "features.json").read_text())
    assert record["kinds"]["clean"] == {"features": [1438, 160], "probabilities": [1438, 10]}
    assert record["layer"] == "1.11" and record["fingerprint"] == digits.splits["train"].fingerprint


def test_adversarial_ones_are_those_of_pgd_examples(featured, digits):
    scores = Scores.read(featured / "scores.parquet")
    model = load_model(featured)
    batch = next(digits.splits["train"].batches(np.arange(1438), 1438))
    eps = 8 / 255
    x_adv = random_point(batch.x, batch.index, 8 / 255, "linf", 0)
    for _ in range(10):  # all ten steps, whether or not a sample is broken already
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x_adv), batch.y, reduction="sum"), x_adv)
        x_adv = project(x_adv.detach() + eps / 4 * gradient.sign(), batch.x, eps, "linf")
    close = np.isclose(scores.features_adv, last_input(model, x_adv), rtol=1e-2, atol=1e-3).all(1)
    assert close.mean() > 0.99  # a sign of a gradient near 0 may flip with the batch
    assert np.abs(scores.features_adv.astype(float) - scores.features.astype(float)).mean() > 0.01
    facts = json.loads((featured / "features.json").read_text())["kinds"]["adversarial"]
    assert facts | {"steps": 10, "eps": eps, "norm": "linf", "seed": 0} == facts


def test_the_test_split_is_never_read(tmp_path, monkeypatch):
    read = []
    batches = Split.batches
    monkeypatch.setattr(Split, "batches", lambda self, *a, **k: read.append(self.name) or batches(self, *a, **k))
    score(data="digits", epochs=1, save_features="adversarial", out=tmp_path)
    assert set(read) == {"train"}


def test_features_are_added_to_a_finished_run_without_training(scored, tmp_path, cli):
    folder = shutil.copytree(scored, tmp_path / "run")
    before = {name: (folder / name).read_bytes() for name in ("scores.parquet", "model.safetensors", "history.jsonl")}
    assert Scores.read(folder / "scores.parquet").features is None
    common = ("score", "--data", "digits", "--epochs", "5", "--out", folder)
    assert cli(*common[:-2], "--save-features", *common[-2:]).code == 0
    stamp = (folder / "features.npy").stat().st_mtime_ns
    assert not (folder / "features_adv.npy").exists()
    (tmp_path / "more.yaml").write_text("save-features: adversarial\n")
    assert cli(*common, "--config", tmp_path / "more.yaml").code == 0
    assert (folder / "features_adv.npy").exists() and (folder / "features.npy").stat().st_mtime_ns == stamp
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    ran = cli(*common, "--save-features", "both")
    assert ran.code == 2 and "save_features" in ran.err


def last_layer_gradient(model, x, y):
    """Norm of the gradient with respect to the last linear layer, one sample at a time, by autograd."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    found = []
    for one, label in zip(x, y, strict=True):
        grads = torch.autograd.grad(F.cross_entropy(model(one[None]), label[None]), list(last.parameters()))
        found.append(float(torch.sqrt(sum(g.square().sum() for g in grads))))
    return np.array(found)


@pytest.mark.parametrize("bias", [True, False])
def test_grand_is_the_norm_of_the_last_layers_gradient(digits, bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10, bias=bias))
    split = digits.splits["train"]
    measures = load_hardness(["grand", "aign"])
    columns = measure_all(model, lambda: split.batches(np.arange(200), 64), 200, measures)
    batch = next(split.batches(np.arange(200), 200))
    assert close32(columns["grand"], last_layer_gradient(model, batch.x, batch.y))
    assert columns["aign"].shape == (200,) and not model[3]._forward_pre_hooks


def test_grand_of_a_softmax_linear_model_is_the_whole_gradient(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    split = digits.splits["train"]
    columns = measure_all(model, lambda: split.batches(np.arange(50), 50), 50, load_hardness(["grand"]))
    batch = next(split.batches(np.arange(50), 50))
    p = model(batch.x).softmax(1) - F.one_hot(batch.y, 10)
    by_hand = p.norm(dim=1) * (batch.x.flatten(1).norm(dim=1) ** 2 + 1).sqrt()
    assert close32(columns["grand"], by_hand.detach())


def test_a_model_without_a_last_linear_layer(tmp_path, caplog, cli):
    spec = "tests.support.factories:convolutional_head"
    with caplog.at_level("INFO", "easycoreset"):
        scores = score(data="digits", model=spec, epochs=1, out=tmp_path / "plain")
    assert "grand" not in scores.columns and "aign" in scores.columns and named(caplog.text, "grand ")
    for given in (("--hardness", "grand"), ("--save-features",)):
        ran = cli("score", "--data", "digits", "--model", spec, "--epochs", 1, *given, "--out", tmp_path / "x")
        assert ran.code == 2 and "--feature-layer" in ran.err
    explicit = score(
        data="digits", model=spec, epochs=1, feature_layer="1", save_features="clean", out=tmp_path / "named"
    )
    assert explicit.features.shape == (1438, 8) and "grand" in explicit.columns
    with pytest.raises(UsageError, match="feature_layer 'body'"):
        score(data="digits", model=spec, epochs=1, feature_layer="body", out=tmp_path / "wrong")


def test_the_last_linear_layer_must_give_the_logits():
    scaled = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(UsageError, match=r"nn\.Linear.*--feature-layer"):
        find_last_layer(scaled, torch.randn(2, 1, 2, 2))
    assert find_last_layer(scaled, torch.randn(2, 1, 2, 2), "1").name == "1"
    assert find_last_layer(nn.Linear(4, 3), torch.randn(2, 4)).name == ""


def test_features_beyond_float16_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"features of sample \d+\b.*\bfloat16\b"):
        score(
            data="digits",
            model="tests.support.factories:huge_features",
            epochs=1,
            lr=1e-9,
            save_features="clean",
            out=tmp_path,
        )
    assert not (tmp_path / "features.npy").exists() and not (tmp_path / "features.json").exists()
    assert Scores.read(tmp_path / "scores.parquet").features is None


def test_a_layer_without_bias_is_known(tmp_path):
    scores = score(
        data="digits", model="tests.support.factories:without_bias", epochs=1, save_features="clean", out=tmp_path
    )
    assert not scores.bias and scores.features.shape == (1438, 12)


def test_select_finds_features_beside_the_scores(featured, tmp_path):
    for method in ("herding", "craig", "craig:gradients=adversarial", "cal"):
        coreset = select(scores=featured / "scores.parquet", method=method, fraction=0.1, out=tmp_path / "c.parquet")
        assert len(coreset) == 144
    weighted = select(scores=featured / "scores.parquet", method="craig", fraction=0.1, out=tmp_path / "w.parquet")
    weights = pq.read_table(tmp_path / "w.parquet")["weight"].drop_null().to_numpy()
    assert weights.mean() == pytest.approx(1) and weights.std() > 0.1
    assert np.array_equal(weights, weighted.weight[weighted.keep])


def spoil(folder, **changes):
    record = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps(record | changes))


def test_features_that_do_not_belong_to_the_scores(featured, tmp_path, cli):
    folder = shutil.copytree(featured, tmp_path / "run")
    scores = folder / "scores.parquet"
    spoil(folder, fingerprint="0" * 64)
    ran = cli("select", "--scores", scores, "--method", "herding", "--fraction", 0.1, "--out", tmp_path / "c.parquet")
    assert (
        ran.code == 2
        and named(ran.err, "features.json", "fingerprint", "--save-features")
        and not (tmp_path / "c.parquet").exists()
    )
    shutil.copy(featured / "features.json", folder)
    np.save(folder / "features.npy", np.zeros((7, 3), np.float16))
    with pytest.raises(UsageError, match=r"features\.npy.*\[1438, d\].*\(7, 3\)"):
        choose(Scores.read(scores), method="kcenter", fraction=0.1)
    (folder / "features.npy").write_bytes(b"half a file")
    with pytest.raises(UsageError, match=r"features\.npy.*\barray\b"):
        choose(Scores.read(scores), method="kcenter", fraction=0.1)
    assert len(choose(Scores.read(scores), method="random", fraction=0.1)) == 144  # asks for no features
    spoiled = np.load(featured / "features.npy")
    spoiled[[5, 17], 3] = np.nan
    np.save(folder / "features.npy", spoiled)
    with pytest.raises(UsageError, match=r"features.*\b2 rows\b.*\b5, 17\b"):
        choose(Scores.read(scores), method="kcenter", fraction=0.1)


@pytest.mark.parametrize("spoilt", ["features.npy", "features.json", "probabilities.npy"])
def test_features_that_are_lost_or_broken_are_made_again(featured, tmp_path, spoilt):
    folder = shutil.copytree(featured, tmp_path / "run")
    expected = np.load(folder / "features.npy")
    (folder / spoilt).write_bytes(b"half")
    with pytest.raises(UsageError, match=spoilt):  # whoever changed it
        score(data="digits", epochs=2, save_features="clean", out=folder)
    (folder / spoilt).unlink()
    scores = score(data="digits", epochs=2, save_features="clean", out=folder)
    assert np.array_equal(scores.features, expected) and not scores.features_problem


def test_arrays_of_another_shape_are_wrong_use(featured):
    scores = Scores.read(featured / "scores.parquet")
    for changes, match in (
        ({"features": scores.features[:7]}, r"^features\b.*\[1438, d\].*\b7 rows"),
        ({"features": scores.features[:, 0]}, r"^features\b.*\[1438, .*\(1438,\)"),
        (
            {"probabilities": scores.probabilities[:, :4]},
            r"^probabilities\b.*\[1438, 10\b.*\(1438, 4\)",
        ),
    ):
        with pytest.raises(UsageError, match=match):
            choose(Scores(**{**vars(scores), **changes}), method="craig", fraction=0.1)


def test_heads_that_are_called_in_other_ways(tmp_path, caplog):
    explicit = score(
        data="digits", model="tests.support.factories:keyword_head", epochs=1, save_features="clean", out=tmp_path / "k"
    )
    assert explicit.features.shape == (1438, 64) and "grand" in explicit.columns
    with caplog.at_level("INFO", "easycoreset"):
        chunked = score(data="digits", model="tests.support.factories:chunked_head", epochs=1, out=tmp_path / "c")
    assert "grand" not in chunked.columns and named(caplog.text, "grand ")


def test_a_run_keeps_the_measures_that_it_began_with(scored, tmp_path):
    """As a folder of an earlier version, which had fewer of them."""
    folder = shutil.copytree(scored, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    record["options"]["hardness"].remove("grand")
    (folder / "run.json").write_text(json.dumps(record))
    assert score(data="digits", epochs=5, save_features="clean", out=folder).features.shape == (1438, 160)
    with pytest.raises(UsageError, match="hardness"):
        score(data="digits", epochs=5, hardness="grand", out=folder)


def test_a_layer_can_be_named_later_and_another_one_makes_features_anew(tmp_path):
    common = {"data": "digits", "model": "tests.support.factories:convolutional_head", "epochs": 1, "out": tmp_path}
    score(**common)
    assert score(**common, save_features="clean", feature_layer="1").features.shape == (1438, 8)
    assert score(**common, save_features="clean", feature_layer="0.1").features.shape == (1438, 8 * 6 * 6)
    with pytest.raises(UsageError, match=r"^feature_layer\b"):
        score(data="digits", epochs=1, hardness="aign", feature_layer="1", out=tmp_path / "x")


def test_absent_features_are_asked_for(scored, cli, tmp_path):
    common = ("select", "--scores", scored / "scores.parquet", "--fraction", 0.1, "--out", tmp_path / "c.parquet")
    ran = cli(*common, "--method", "kcenter")
    assert ran.code == 2 and "score ... --save-features`" in ran.err
    ran = cli(*common, "--method", "craig:gradients=adversarial")
    assert ran.code == 2 and "--save-features adversarial" in ran.err
    ran = cli(*common, "--method", "herding:per_class=false")
    assert ran.code == 2 and named(ran.err, "per_class ", "herding")


def all_convolutional():
    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())


@pytest.mark.parametrize("make", [Plain, HeadTwice, TiedWeights, all_convolutional])
def test_a_models_logits_leave_autocast_for_a_while(make, caplog):
    caplog.set_level("INFO", "easycoreset")
    model = make()
    x = torch.rand(4, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x)
        with float32_logits(model, x):
            inside = copy.deepcopy(model)(x), model(x)
        assert torch.equal(model(x), rounded)
    has_head = isinstance(model, Plain)
    assert {logits.dtype for logits in inside} == {torch.float32 if has_head else torch.bfloat16}
    assert has_head or named(caplog.text, "Sequential", "bf16")
    assert torch.equal(*inside) and torch.allclose(inside[0].float(), rounded.float(), atol=0.02, rtol=0.02)
    assert rounded.dtype == torch.bfloat16
    assert {type(module) for module in model.modules()} == {type(module) for module in make().modules()}
