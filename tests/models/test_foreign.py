"""Anybody's weights: state dicts as training scripts leave them, with and without a normalisation of their own."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from easycoreset import UsageError, evaluate, load_model, train
from easycoreset.models import build_model, build_network
from easycoreset.models.card import ModelCard
from easycoreset.models.foreign import load_foreign, prepend_normalisation

TEN = tuple("0123456789")
DIGITS = ModelCard(model="digits-cnn", shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=TEN)
COLOUR = ModelCard(model="resnet18", shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.2,) * 3, class_names=TEN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign") / "run"
    train(data="digits", updates=100, out=folder)
    return folder


@pytest.fixture(scope="module")
def theirs(trained):
    """The bare network, as somebody who normalises in the data loader would save it, and its mean and deviation."""
    normalize, network = load_model(trained)
    return network.state_dict(), float(normalize.mean.squeeze()), float(normalize.std.squeeze())


def accuracy(result):
    return result.clean.accuracy, result.attacked[0].accuracy


def run(weights, out, **more):
    return evaluate(data="digits", weights=weights, model="digits-cnn", eps=0.1, attack="pgd:steps=5", out=out, **more)


def test_a_state_dict_that_wants_normalised_input(trained, theirs, tmp_path, cli):
    expected = accuracy(evaluate(data="digits", weights=trained, eps=0.1, attack="pgd:steps=5", out=tmp_path / "own"))
    state, mean, std = theirs
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    save_file({f"_orig_mod.{k}": v for k, v in state.items()}, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        found = run(tmp_path / name, tmp_path / f"{name}.out", input_mean=mean, input_std=std)
        assert accuracy(found) == pytest.approx(expected, abs=0.01)
        assert not [said for said in found.warnings if "input" in said]
    forgotten = run(tmp_path / "a.pth", tmp_path / "forgotten")
    assert forgotten.clean.accuracy < expected[0] - 0.01
    assert any(f"--input-mean {mean:.4g} --input-std {std:.4g}" in warning for warning in forgotten.warnings)
    ran = cli(
        "evaluate",
        "--data",
        "digits",
        "--weights",
        tmp_path / "a.pth",
        "--model",
        "digits-cnn",
        "--eps",
        0.1,
        "--attack",
        "fgsm",
        "--input-mean",
        mean,
        "--input-std",
        std,
        "--out",
        tmp_path / "cli",
    )
    assert ran.code == 0, ran.err


def test_our_own_file_needs_no_normalisation(trained, tmp_path):
    expected = accuracy(evaluate(data="digits", weights=trained, eps=0.1, attack="pgd:steps=5", out=tmp_path / "own"))
    assert accuracy(run(trained / "model.safetensors", tmp_path / "file")) == expected


def test_wrong_files_and_options(trained, theirs, tmp_path):
    state, mean, std = theirs
    save_file({k: v for k, v in state.items() if "0.weight" not in k}, tmp_path / "less.safetensors")
    with pytest.raises(UsageError, match=r"less\.safetensors.*digits-cnn.*\b\d+ keys\b.*0\.weight"):
        run(tmp_path / "less.safetensors", tmp_path / "x")
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pth")
    with pytest.raises(UsageError, match=r"pickled\.pth.*weights_only"):
        run(tmp_path / "pickled.pth", tmp_path / "x")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UsageError, match=r"list\.pth.*state dict"):
        run(tmp_path / "list.pth", tmp_path / "x")
    save_file(state, tmp_path / "fine.safetensors")
    for options, match in (
        ({"input_mean": mean}, "input_mean.*input_std"),
        ({"input_mean": [0.1, 0.2], "input_std": [1, 1]}, r"input_mean.*\b1\b.*\(0\.1, 0\.2\)"),
        ({"input_mean": 0.1, "input_std": 0}, "input_std.* 0"),
    ):
        with pytest.raises(UsageError, match=match):
            run(tmp_path / "fine.safetensors", tmp_path / "x", **options)
    with pytest.raises(UsageError, match="^input_mean.*folder"):
        evaluate(data="digits", weights=trained, input_mean=mean, input_std=std, out=tmp_path / "x")
    nan = {k: torch.full_like(v, float("nan")) if v.is_floating_point() else v for k, v in state.items()}
    save_file(nan, tmp_path / "nan.safetensors")
    with pytest.raises(UsageError, match=r"^model.*\blogits\b"):
        run(tmp_path / "nan.safetensors", tmp_path / "x")
    five = build_model(
        ModelCard(model="digits-cnn", shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("abcde"))
    )
    save_file(five[1].state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(UsageError, match=r"five\.safetensors: .*\bdigits-cnn\b.*\bkeys\b"):
        run(tmp_path / "five.safetensors", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_model_of_pixels_from_0_to_255_is_found(theirs, tmp_path):
    state, mean, std = theirs
    model = prepend_normalisation(build_network(DIGITS), 1, (255 * mean,), (255 * std,))
    model[1].load_state_dict(state)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    result = evaluate(
        data="digits",
        weights=tmp_path / "w.safetensors",
        model="factories:of_bytes",
        eps=0.1,
        attack="fgsm",
        out=tmp_path / "e",
    )
    assert any("--input-mean 0 --input-std 0.003922" in warning for warning in result.warnings)


def test_published_names_load(tmp_path):
    """A network of torchvision's for grey images, and the layer names of published robust ResNets and WideResNets."""
    from torchvision import models

    grey = ModelCard(model="torchvision:resnet18", shape=(1, 64, 64), mean=(0.5,), std=(0.2,), class_names=("a", "b"))
    state = models.resnet18(num_classes=2).state_dict()
    save_file(state, tmp_path / "grey.safetensors")
    loaded = load_foreign(tmp_path / "grey.safetensors", grey)
    assert torch.equal(loaded[1].fc.weight, state["fc.weight"])
    with torch.device("meta"):
        names = {name: build_network(replace(COLOUR, model=name)).state_dict() for name in ("resnet18", "wrn-34-10")}
    assert {"conv1.weight", "layer2.0.shortcut.1.running_var", "layer4.1.conv2.weight", "linear.bias"} <= {
        *names["resnet18"]
    }
    assert {"block1.layer.0.convShortcut.weight", "block3.layer.4.bn2.weight", "bn1.bias", "fc.weight"} <= {
        *names["wrn-34-10"]
    }


def test_a_missing_file_of_weights_is_named(tmp_path, cli):
    ran = cli(
        "evaluate",
        "--data",
        "digits",
        "--weights",
        tmp_path / "no.pt",
        "--model",
        "digits-cnn",
        "--out",
        tmp_path / "e",
    )
    assert ran.code == 2 and "no.pt" in ran.err and "weights" in ran.err


def test_wide_networks_have_the_literatures_size():
    for name, size in (("wrn-28-10", 36_479_194), ("wrn-34-10", 46_160_474)):
        with torch.device("meta"):
            assert sum(p.numel() for p in build_model(replace(COLOUR, model=name)).parameters()) == size
