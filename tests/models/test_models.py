"""Models: sizes, normalisation as a layer, and saved ones that come back safely."""

import json

import pytest
import torch
from torch import nn

from easycoreset import UsageError, load_model
from easycoreset.errors import EasycoresetWarning
from easycoreset.models import MODELS, build_model
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.modes import frozen
from easycoreset.models.normalize import Normalize
from easycoreset.models.saved import save_model


def card(model, shape=(3, 32, 32), classes=10):
    channels = shape[0]
    names = tuple(map(str, range(classes)))
    return ModelCard(model=model, shape=shape, mean=(0.5,) * channels, std=(0.2,) * channels, class_names=names)


def multiply_adds(model, shape):
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        positions = output[0, 0].numel() if output.ndim == 4 else 1
        total += layer.weight.numel() * positions

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    model.eval()(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return total


def test_sizes():
    assert multiply_adds(build_model(card("digits-cnn", (1, 8, 8))), (1, 8, 8)) <= 300_000
    assert 6.5e6 < multiply_adds(build_model(card("thin-resnet")), (3, 32, 32)) < 7.5e6
    assert 0.5e9 < multiply_adds(build_model(card("resnet18")), (3, 32, 32)) < 0.6e9
    parameters = sum(p.numel() for p in build_model(card("resnet18")).parameters())
    assert parameters == 11_173_962  # as in the literature's CIFAR ResNet-18


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 50, 41)])
def test_every_model_takes_any_small_image(name, shape):
    model = build_model(card(name, shape, 7))
    assert isinstance(model[0], Normalize)
    assert model(torch.rand(2, *shape)).shape == (2, 7)


def test_normalisation_is_the_first_layer():
    layer = Normalize((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    x = torch.rand(4, 3, 5, 5)
    for c, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 1.0, 2.0), strict=True)):
        torch.testing.assert_close(layer(x)[:, c], (x[:, c] - mean) / std)


def test_torchvision_models_and_the_warning_about_their_stem():
    with pytest.warns(EasycoresetWarning, match="32 pixels"):
        model = build_model(card("torchvision:resnet18"))
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    grey = build_model(card("torchvision:mobilenet_v3_small", (1, 64, 64), 4))
    assert grey.eval()(torch.rand(1, 1, 64, 64)).shape == (1, 4)
    with pytest.raises(UsageError, match="'torchvision:resnet8'.*'torchvision:resnet18'"):
        build_model(card("torchvision:resnet8"))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("thin-resnte", "'thin-resnte'.*'thin-resnet'"),
        ("tests.support.factories:nothing", r"model 'tests\.support\.factories:nothing'.*AttributeError"),
        ("no.such.module:thing", r"model 'no\.such\.module:thing'.*ModuleNotFoundError"),
        ("factories:needs_an_argument", "model 'factories:needs_an_argument'.*TypeError"),
        ("broken_module:thing", "model 'broken_module:thing'.*SyntaxError"),
        ("tests.support.factories:not_a_model", r"nn\.Module.*\bint\b"),
    ],
)
def test_unknown_models(name, match, tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("def thing(:")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=match):
        build_model(card(name, (1, 8, 8)))


def test_saved_models_come_back(tmp_path):
    torch.manual_seed(0)
    model = build_model(card("thin-resnet")).train()
    model(torch.rand(8, 3, 32, 32))  # moves the running statistics
    save_model(tmp_path, model, card("thin-resnet"))
    loaded = load_model(tmp_path)
    x = torch.rand(2, 3, 32, 32)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == (tmp_path / "model.json").stat().st_mode & 0o777
    assert build_model(card("factories:plain", (1, 8, 8))) is not None  # a module of the current folder needs no dot
    assert not loaded.training and torch.equal(loaded(x), model.eval()(x))
    assert read_card(tmp_path) == card("thin-resnet")
    save_model(tmp_path / "other", build_model(card("digits-cnn")), card("thin-resnet"))
    with pytest.raises(UsageError, match=r"model\.safetensors.*\b\d+ keys\b.*1\.0\.weight"):
        load_model(tmp_path / "other")


def test_a_factory_is_imported_only_when_it_is_repeated(tmp_path):
    name = "tests.support.factories:plain"
    save_model(tmp_path, build_model(card(name, (1, 8, 8))), card(name, (1, 8, 8)))
    for other in (None, "tests.support.factories:with_dropout"):
        with pytest.raises(UsageError, match=f"model\\.json.*'{name}'.*\\bmodel\\b"):
            load_model(tmp_path, model=other)
    assert load_model(tmp_path, model=name)(torch.rand(1, 1, 8, 8)).shape == (1, 10)


def test_broken_saved_models_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"model\.json"):
        load_model(tmp_path)
    save_model(tmp_path, build_model(card("digits-cnn")), card("digits-cnn"))
    with pytest.raises(UsageError, match="^model .*'digits-cnn'.*'"):
        load_model(tmp_path, model="thin-resnet")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"model\.safetensors: .*\bsafetensors file\b"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        load_model(tmp_path)
    for text, match in [
        ("{", r"model\.json: .*\bJSON\b"),
        ("[]", r"model\.json: .*\bJSON object\b"),
        ('{"a": 1}', r"model\.json: .*'model'"),
    ]:
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(UsageError, match=match):
            load_model(tmp_path)
    record = json.loads(json.dumps({**vars(card("digits-cnn")), "mean": [0.1]}))
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"model\.json: shape, mean.*std"):
        load_model(tmp_path)


def test_frozen_restores_after_an_error_too():
    model = build_model(card("digits-cnn")).train()
    with pytest.raises(RuntimeError, match="boom"), frozen(model):
        assert not any(m.training for m in model.modules()) and not any(p.requires_grad for p in model.parameters())
        raise RuntimeError("boom")
    assert all(m.training for m in model.modules()) and all(p.requires_grad for p in model.parameters())
