"""Networks as other people write them: they work from start to end, or are refused in one line before work starts."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from easycoreset import evaluate, input_gradient_norms, load_model, predict, score, train
from easycoreset.attacks import MARGINS
from easycoreset.data import open_source
from easycoreset.errors import RunError, UsageError
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.members import load_member
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard
from easycoreset.models.folding import fold_batch_norm
from easycoreset.models.last_layer import find_last_layer
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_weights, save_model
from support.odd_models import ODD_MODELS, InplaceInput

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
REFUSED = {
    "DetachedInput": r"\bgradients?\b",
    "HardThreshold": r"\bgradients?\b",
    "NoGrad": r"\bgradients?\b",
    "ConstantLogits": r"\bgradients?\b",
    "NoParameters": r"\bparameters\b",
    "quantised": r"\bparameters\b",
    "frozen_parameters": r"\bparameters\b",
    "ExtraState": "state dict.*tensors",
    "ReturnsTuple": r"\blogits\b.*\btuple\b",
    "ReturnsFlat": r"logits \[2, ",
    "ReturnsMaps": r"logits \[2, ",
    "RaisesForward": "first batch",
    "Auxiliary": r"\blogits\b",
    "meta_device": "meta device",
    "half_precision": "first batch",
}


def spell(name):
    return f"support.odd_models:{name}"


@pytest.fixture(scope="module")
def data(tmp_path_factory, digits):
    file = tmp_path_factory.mktemp("odd") / "d.npz"
    split = digits.splits["train"]
    np.savez(file, x=split.images.pixels[:150].numpy(), y=split.labels[:150])
    return str(file)


def test_each_is_expected():
    assert len(ODD_MODELS) == 30 and set(REFUSED) < set(ODD_MODELS)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_before_work_starts(data, tmp_path, cli, name):
    ran = cli("score", "--data", data, "--model", spell(name), "--epochs", 1, "--out", tmp_path / "s")
    said = [line for line in ran.err.splitlines() if line.startswith("easycoreset ")]
    assert ran.code == 2 and len(said) == 1 and re.search(REFUSED[name], said[0]) and not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", sorted(set(ODD_MODELS) - set(REFUSED)))
def test_they_score_and_come_back(data, tmp_path, name):
    scores = score(data=data, model=spell(name), epochs=1, batch_size=50, out=tmp_path / "s")
    assert name == "HugeLogits" or np.isfinite(scores["aign"]).all()
    model = load_model(tmp_path / "s", spell(name))
    result = evaluate(
        data=data,
        weights=tmp_path / "s",
        model=spell(name),
        attack=["fgsm", "pgd:steps=2"],
        eps=0.1,
        limit=20,
        out=tmp_path / "e",
    )
    assert 0 <= result.clean.accuracy <= 1 and len(
        predict(data=data, weights=tmp_path / "s", model=spell(name), out=tmp_path / "p")
    )
    if name not in ("Noisy", "CountsInEval"):
        with torch.no_grad():
            logits = model(next(open_source(data).splits["train"].batches(np.arange(8), 8)).x)
        assert isinstance(logits, torch.Tensor) and logits.shape == (8, 10)


@pytest.mark.parametrize("name", ["HeadTwice", "TiedWeights", "ExpandedBuffer", "data_parallel", "spectral_norm"])
def test_they_are_the_same_once_saved(tmp_path, name):
    card = ModelCard(model=spell(name), shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("0123456789"))
    one = build_model(card)
    other = build_model(card)
    x = torch.rand(4, 1, 8, 8)
    save_model(tmp_path, one, card)
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(one.eval()(x), other.eval()(x))
    trained = train(data="digits", model=spell(name), updates=2, ema=0.9, out=tmp_path / "t")
    again = load_model(tmp_path / "t", spell(name))
    assert torch.equal(trained(x), again(x))


@pytest.mark.parametrize("attack", ["fgsm", "pgd:steps=2", "autoattack:iterations=2:queries=5"])
def test_writing_to_the_input_harms_nothing(data, tmp_path, attack):
    train(data=data, model=spell("InplaceInput"), objective="trades:steps=2", updates=2, out=tmp_path / "t")
    result = evaluate(
        data=data,
        weights=tmp_path / "t",
        model=spell("InplaceInput"),
        attack=attack,
        eps=0.1,
        limit=10,
        margins="fmn:steps=5",
        out=tmp_path / "e",
    )
    assert "buffers" not in " ".join(result.warnings)


def test_onnx_of_one_that_writes_to_its_input(data, tmp_path, cli):
    pytest.importorskip("onnx")
    train(data=data, model=spell("InplaceInput"), updates=2, out=tmp_path / "t")
    ran = cli(
        "export", tmp_path / "t", "--format", "onnx", "--model", spell("InplaceInput"), "--out", tmp_path / "m.onnx"
    )
    assert ran.code == 0, ran.err


def test_an_evaluation_of_a_model_without_gradient_says_so(tmp_path, digits):
    card = ModelCard(
        model=spell("DetachedInput"), shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("0123456789")
    )
    save_model(tmp_path / "m", build_model(card), card)
    given = {"data": "digits", "weights": tmp_path / "m", "model": card.model, "eps": 0.1, "limit": 50}
    result = evaluate(**given, attack="pgd:steps=2", out=tmp_path / "e")
    assert any("gradient" in said for said in result.warnings)
    assert not any("over-confident" in said for said in result.warnings)
    for more in ({"margins": "fmn"}, {"attack": "autoattack"}):
        with pytest.raises(UsageError, match=r"^model.*\bgradients\b"):
            evaluate(**given | {"attack": "fgsm"} | more, out=tmp_path / "f")
    with pytest.raises(UsageError, match=r"input_gradient_norms.*\bgradient\b"):
        input_gradient_norms(build_model(card), torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))


FAMILIES = ["timm:mobilenetv3_small_050", "timm:ghostnet_100", "timm:lcnet_050", "timm:mobilenetv4_conv_small"]


@pytest.mark.parametrize("name", [*FAMILIES, spell("own_head")])
def test_what_is_found_before_is_found_in_what_is_run(name, digits):
    """The features of the folded copy are those of the model: a linear layer of anybody's class is found in it."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    card = ModelCard(model=name, shape=(1, 8, 8), mean=(0.5,), std=(0.5,), class_names=tuple("0123456789"))
    torch.manual_seed(0)
    model = build_model(card).eval()
    split = digits.splits["train"]
    columns = measure_all(model, lambda: split.batches(np.arange(20), 10), 20, load_hardness(["grand", "aign"]))
    assert np.isfinite(columns["grand"]).all() and (columns["grand"] > 0).all()
    x = next(split.batches(np.arange(4), 4)).x
    with frozen(model):
        layer = find_last_layer(model, x).name
        folded = fold_batch_norm(model, x[:2], layer)
    assert layer in dict(folded.named_modules()) and (folded is not model or not name.startswith("timm"))


def test_a_layers_own_name_will_do():
    card = ModelCard(model="digits-cnn", shape=(1, 8, 8), mean=(0.5,), std=(0.5,), class_names=tuple("01"))
    model = build_model(card)
    x = torch.rand(2, 1, 8, 8)
    assert find_last_layer(model, x, "11").name == find_last_layer(model, x, "1.11").name == "1.11"
    two = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), nn.Sequential(nn.Identity(), nn.Linear(64, 2)))
    with pytest.raises(UsageError, match="feature_layer.*'9'"):
        find_last_layer(two, x, "9")


@pytest.mark.slow
def test_a_timm_model_from_start_to_end(png_folder, tmp_path, cli):
    pytest.importorskip("timm")
    ran = cli(
        "score",
        "--data",
        png_folder,
        "--model",
        "timm:mobilenetv3_small_050",
        "--epochs",
        2,
        "--image-size",
        32,
        "--out",
        tmp_path / "s",
    )
    assert ran.code == 0, ran.err


@pytest.mark.slow
def test_auxiliary_heads_of_torchvision(png_folder, tmp_path, cli):
    ran = cli(
        "score",
        "--data",
        png_folder,
        "--model",
        "torchvision:googlenet",
        "--epochs",
        1,
        "--image-size",
        32,
        "--out",
        tmp_path / "s",
    )
    assert ran.code == 0, ran.err
    ran = cli(
        "score",
        "--data",
        png_folder,
        "--model",
        "torchvision:inception_v3",
        "--epochs",
        1,
        "--image-size",
        32,
        "--out",
        tmp_path / "t",
    )
    assert ran.code == 2 and not (tmp_path / "t").exists()


def test_the_input_stays_as_it_was():
    model = InplaceInput()
    x = torch.rand(2, 1, 8, 8)
    card = ModelCard(
        model=spell("InplaceInput"), shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("0123456789")
    )
    kept = x.clone()
    build_model(card).eval()(x)
    assert torch.equal(x, kept)
    model.eval()(x)
    assert not torch.equal(x, kept)  # so does the network itself


def test_weights_that_are_not_finite_are_not_saved(tmp_path, data):
    with pytest.raises(RunError, match=r"weights\b.*\w+\.weight\b.*--on-nan continue"):
        train(
            data=data,
            model="digits-cnn",
            updates=1,
            lr=1e30,
            weight_decay=1e30,
            schedule="constant",
            out=tmp_path / "t",
        )
    assert not (tmp_path / "t" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["fmn", "ddn", "deepfool"])
def test_margins_of_one_that_writes_to_its_input(name):
    card = ModelCard(
        model=spell("InplaceInput"), shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("0123456789")
    )
    model = build_model(card).eval()
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    assert load_member("margin", f"{name}:steps=3", MARGINS)(model, x, y).shape == x.shape
