"""Training that starts from weights: a trained model's folder, a file, or published ones."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from easycoreset import UsageError, load_model, open_source, score, train
from easycoreset.errors import EasycoresetWarning
from easycoreset.options import TrainOptions
from easycoreset.training import fresh_model, prepare
from support.messages import named


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "run"
    train(data="digits", updates=100, out=folder)
    return folder


def job(tmp_path, **options):
    given = TrainOptions(**{"data": "digits", "out": tmp_path / "unused", "updates": 10, **options})
    return prepare(given, epochs=given.epochs, updates=given.updates)


def accuracy(model, digits):
    batch = next(digits.splits["test"].batches(np.arange(359), 359))
    with torch.no_grad():
        return float((model.eval()(batch.x).argmax(1) == batch.y).float().mean())


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_ten_updates_from_a_trained_model_are_better_than_from_scratch(trained, tmp_path, digits):
    scratch = train(data="digits", updates=10, lr=0.02, seed=1, out=tmp_path / "scratch")
    tuned = train(data="digits", updates=10, lr=0.02, seed=1, init=trained, out=tmp_path / "tuned")
    assert accuracy(tuned, digits) > 0.9 > accuracy(scratch, digits) + 0.1
    record = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert record["options"]["init"].startswith("weights ")
    assert same(state(load_model(tmp_path / "tuned")), state(tuned))


def test_a_job_begins_with_just_these_weights(trained, tmp_path):
    one = job(tmp_path, init=str(trained))
    begun = state(fresh_model(one))
    after = torch.get_rng_state()
    assert same(begun, state(load_model(trained)))
    plain = job(tmp_path)
    drawn = state(fresh_model(plain))
    assert torch.equal(torch.get_rng_state(), after)  # dropout and the like draw as they would have
    assert (
        not same(drawn, state(fresh_model(one)))
        and one.identity(one.options)["init"] != plain.identity(plain.options)["init"]
    )


def test_files_of_anybodys(trained, tmp_path):
    expected = state(load_model(trained))
    bare = {name.removeprefix("1."): value for name, value in expected.items() if not name.startswith("0.")}
    torch.save(
        {"epoch": 3, "state_dict": {f"module._orig_mod.{name}": value for name, value in bare.items()}},
        tmp_path / "a.pth",
    )
    save_file(bare, tmp_path / "b.safetensors")
    marks = set()
    for init in (tmp_path / "a.pth", tmp_path / "b.safetensors"):
        one = job(tmp_path, init=init)
        begun = state(fresh_model(one))
        assert all(torch.equal(begun[f"1.{name}"], value) for name, value in bare.items())
        assert begun["0.mean"].flatten().tolist() == pytest.approx(one.source.mean)
        marks.add(one.identity(one.options)["init"])
    assert len(marks) == 1  # what is in it counts, not where it lies
    assert same(state(fresh_model(job(tmp_path, init=trained / "model.safetensors"))), expected)


def test_the_normalisation_of_a_trained_model_comes_along(trained, tmp_path):
    x = (np.arange(40 * 64) % 250).astype(np.uint8).reshape(40, 8, 8)
    np.savez(tmp_path / "other.npz", x=x, y=np.arange(40) % 10)
    one = job(tmp_path, data=str(tmp_path / "other.npz"), init=trained)
    assert same(state(fresh_model(one)), state(load_model(trained)))
    assert one.card().mean == pytest.approx(open_source("digits").mean) and one.model_name == "digits-cnn"


def test_scoring_starts_from_weights_too(trained, tmp_path):
    scores = score(data="digits", epochs=1, lr=0.001, init=trained, out=tmp_path / "s")
    assert np.nanmean(scores["loss"]) < 0.5 < np.log(10)
    with pytest.raises(UsageError, match="^init.*checkpoints"):
        score(data="digits", model="digits-cnn", checkpoints=trained, init=trained, out=tmp_path / "c")


def test_other_weights_are_another_run(trained, tmp_path):
    train(data="digits", updates=1, init=trained, out=tmp_path / "run")
    train(data="digits", updates=1, init=trained / "model.safetensors", out=tmp_path / "run")  # the same weights
    with pytest.raises(UsageError, match=r"run\.json.*init='weights \w+'.*\bNone\b"):
        train(data="digits", updates=1, out=tmp_path / "run")


def test_wrong_weights_are_named(trained, tmp_path):
    x = (np.arange(40 * 64) % 250).astype(np.uint8).reshape(40, 8, 8)
    np.savez(tmp_path / "four.npz", x=x, y=np.arange(40) % 4)
    four = {"data": str(tmp_path / "four.npz"), "model": "digits-cnn"}
    bare = {name.removeprefix("1."): v for name, v in load_model(trained).state_dict().items() if name[0] == "1"}
    save_file(bare, tmp_path / "bare.safetensors")
    save_file({name: v for name, v in bare.items() if name != "0.weight"}, tmp_path / "less.safetensors")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pth")
    (tmp_path / "empty").mkdir()
    for options, match in [
        ({"init": trained, **four}, r"^init: .*run\b.*\b10 classes\b.*\b4$"),
        (
            {"init": tmp_path / "bare.safetensors", **four},
            r"^init: .*bare\.safetensors\b.*\b10 classes\b.*\b4$",
        ),
        (
            {"init": trained, "model": "thin-resnet"},
            r"^init: .*run\b.*'digits-cnn'.*'thin-resnet' \(--model\)",
        ),
        (
            {"init": tmp_path / "bare.safetensors", "model": "thin-resnet"},
            r"bare\.safetensors: .*\bthin-resnet; \d+ keys\b",
        ),
        ({"init": tmp_path / "less.safetensors"}, r"less\.safetensors: .*\bdigits-cnn; 1 keys\b.*0\.weight"),
        ({"init": tmp_path / "pickled.pth"}, r"^init: \S*pickled\.pth: .*weights_only"),
        (
            {"init": "pretraind"},
            r"^init\b.*\bpretrained\b.*'pretraind'",
        ),
        ({"init": tmp_path / "empty"}, r"empty/model\.json"),
        ({"init": "pretrained"}, "^init: .*torchvision:NAME.*timm:NAME.*'digits-cnn'"),
    ]:
        with pytest.raises(UsageError, match=match) as caught:
            job(tmp_path, **options)
        assert "\n" not in str(caught.value)


def run_offline(tmp_path, model):
    """`train --init pretrained` in a process of its own that has no cache, and, as everything here, no network."""
    given = {**os.environ, "TORCH_HOME": str(tmp_path / "torch"), "HF_HOME": str(tmp_path / "hub")}
    given = {name: value for name, value in given.items() if name != "HF_HUB_OFFLINE"}
    line = [
        "train",
        "--data",
        "digits",
        "--model",
        model,
        "--init",
        "pretrained",
        "--epochs",
        "1",
        "--quiet",
        "--out",
        str(tmp_path / "t"),
    ]
    done = subprocess.run([sys.executable, "-m", "easycoreset", *line], capture_output=True, text=True, env=given)
    return done.returncode, [text for text in done.stderr.splitlines() if "ImageNet" not in text]


@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:resnet18"])
@pytest.mark.slow
def test_without_a_network_published_weights_are_one_clear_line(tmp_path, model):
    if model.startswith("timm"):
        pytest.importorskip("timm")
    code, lines = run_offline(tmp_path, model)
    assert code == 2 and len(lines) == 1, lines
    assert named(lines[0], "init", model)
    assert not (tmp_path / "t" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:densenet121"])
def test_published_weights_of_torchvision(tmp_path, monkeypatch, name, caplog):
    from torchvision import models

    caplog.set_level("INFO", "easycoreset")
    torch.manual_seed(5)
    published = models.get_model(name.split(":")[1], weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: dict(published))
    with pytest.warns(EasycoresetWarning, match=r"\bstem\b"):
        one = job(tmp_path, model=name, init="pretrained", batch_size=4, data=str(square(tmp_path)))
    begun = state(fresh_model(one))
    head = {"resnet18": "fc", "squeezenet1_1": "classifier.1", "densenet121": "classifier"}[name.split(":")[1]]
    for key, value in published.items():
        if not key.startswith(head):
            assert torch.equal(begun[f"1.1.{key}"], value), key  # behind the normalisation and the grey channel
    assert any(named(message, "init", "1000", "10", head) for message in caplog.messages)
    assert begun[f"1.1.{head}.weight"].shape[0] == 10 and same(begun, state(fresh_model(one)))


def square(tmp_path):
    """Twenty grey images of 40 pixels in ten classes."""
    x = np.random.default_rng(0).integers(0, 256, (40, 40, 40), dtype=np.uint8)
    np.savez(tmp_path / "square.npz", x=x, y=np.arange(40) % 10)
    return tmp_path / "square.npz"


def test_published_weights_of_timm(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    published = timm.create_model("test_resnet").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *a, **k: dict(published))
    monkeypatch.setattr("easycoreset.models.pretrained._check_hub_reachable", lambda *a: None)
    with pytest.warns(EasycoresetWarning, match=r"\bstem\b"):
        one = job(tmp_path, model="timm:test_resnet", init="pretrained", batch_size=4, data=str(square(tmp_path)))
    begun = state(fresh_model(one))
    for key, value in published.items():
        if not key.startswith(("fc", "conv1.0")):
            assert torch.equal(begun[f"1.{key}"], value), key
    torch.testing.assert_close(begun["1.conv1.0.weight"], published["conv1.0.weight"].sum(1, keepdim=True))
    assert begun["1.fc.weight"].shape[0] == 10 and same(begun, state(fresh_model(one)))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fresh_model(one)
    after = torch.get_rng_state()
    monkeypatch.undo()
    with pytest.warns(EasycoresetWarning):
        plain = job(tmp_path, model="timm:test_resnet", batch_size=4, data=str(tmp_path / "square.npz"))
    fresh_model(plain)
    assert torch.equal(torch.get_rng_state(), after) and not torch.equal(before, after)
    np.savez(tmp_path / "colour.npz", x=np.zeros((40, 32, 32, 3), np.uint8), y=np.arange(40) % 10)
    with pytest.raises(UsageError, match=r"^init: .*timm:test_vit_relpos\b.*\bpublished$"):
        job(tmp_path, model="timm:test_vit_relpos", init="pretrained", data=str(tmp_path / "colour.npz"))
