"""Weights as other people's training leaves them: wherever they lie in a file, under whatever prefix."""

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from easycoreset import evaluate, load_model, score, train
from easycoreset.errors import UsageError
from easycoreset.models.weights import read_state, read_states


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))


STATE = network().state_dict()
OTHER = {name: value + 1 if value.is_floating_point() else value for name, value in STATE.items()}


class Attributes(dict):
    """As Lightning keeps hyperparameters."""

    def __getattr__(self, key):
        return self[key]


def prefixed(prefix):
    return {prefix + name: value for name, value in STATE.items()}


SAVED = {
    "itself": STATE,
    "net": {"net": STATE, "acc": 93.2, "epoch": 10},
    "network": {"network": STATE},
    "model_state": {"model_state": STATE, "optimizer_state": {"state": {0: {"step": torch.tensor(1.0)}}}},
    "params": {"params": STATE},
    "weights": {"weights": STATE},
    "average alone": {"state_dict_ema": STATE},
    "two levels": {"model": {"state_dict": STATE, "epoch": 3}},
    "module": prefixed("module."),
    "compiled, parallel": {"state_dict": prefixed("module._orig_mod.")},
    "lightning": {"state_dict": prefixed("model."), "hyper_parameters": Attributes(lr=0.1), "loops": {}},
    "encoder": {"state_dict": prefixed("encoder.")},
    "no counter": {name: value for name, value in STATE.items() if "num_batches" not in name},
    "namespace beside": {"state_dict": STATE, "args": argparse.Namespace(lr=0.1, path=[1, 2])},
    "numpy beside": {"model": STATE, "best": np.float64(0.93), "history": np.arange(4)},
    "half": {"model": {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()}},
    "optimizer": {"model": STATE, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": []}},
    "the same twice": {"model": STATE, "model_ema": STATE},
}


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("name", SAVED)
def test_the_weights_are_found(tmp_path, name, old_format):
    torch.save(SAVED[name], tmp_path / "w.pth", _use_new_zipfile_serialization=not old_format)
    _, found = read_state(tmp_path / "w.pth", {"network": STATE}, "a network")
    model = network()
    model.load_state_dict(found, strict=False)
    tolerance = 1e-3 if name == "half" else 0
    for key, value in STATE.items():
        if key in found:
            torch.testing.assert_close(found[key].to(value.dtype), value, rtol=tolerance, atol=tolerance)
        else:
            assert key.endswith("num_batches_tracked")


@pytest.mark.parametrize("key", ["model", "model_ema"])
def test_of_several_one_is_named(tmp_path, key):
    torch.save({"model": STATE, "model_ema": OTHER}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"'model', 'model_ema'.*w\.pth:model"):
        read_state(tmp_path / "w.pth", {"network": STATE}, "a network")
    _, found = read_state(tmp_path / f"w.pth:{key}", {"network": STATE}, "a network")
    assert torch.equal(found["3.bias"], {"model": STATE, "model_ema": OTHER}[key]["3.bias"])
    with pytest.raises(UsageError, match="'mdel'.*'model'"):
        read_state(tmp_path / "w.pth:mdel", {"network": STATE}, "a network")


OTHERS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
    "page": (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
    "empty": (b"", "is empty"),
    "noise": (b"\x01\x02\x03" * 50, "weights_only|weights file"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_file_of_weights_is_named(tmp_path, name, suffix):
    content, match = OTHERS[name]
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(UsageError, match=match) as caught:
        read_states(tmp_path / f"w{suffix}")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert "weights_only=False" not in str(caught.value)


def test_nothing_beside_the_weights_is_made(tmp_path):
    """A class that touches a file when it is unpickled stays where it is."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    for given in ({"model": STATE, "trap": Trap()}, Trap()):
        torch.save(given, tmp_path / "w.pth")
        with pytest.raises(UsageError, match=r"w\.pth: .*\(weights_only\)"):
            read_states(tmp_path / "w.pth")
    torch.save({"model": STATE, "call": subprocess.Popen}, tmp_path / "w.pth")
    assert set(read_states(tmp_path / "w.pth")) == {"model"}
    assert not (tmp_path / "sprung").exists()


def test_evaluate_init_and_checkpoints_read_alike(tmp_path):
    train(data="digits", updates=20, out=tmp_path / "run")
    bare = {name[2:]: value for name, value in load_model(tmp_path / "run").state_dict().items() if name[0] == "1"}
    (tmp_path / "all").mkdir()
    torch.save(
        {"net": {f"module.{name}": value for name, value in bare.items()}, "acc": np.float64(1)},
        tmp_path / "all" / "epoch_1.pth",
    )
    file = tmp_path / "all" / "epoch_1.pth"
    mean = load_model(tmp_path / "run")[0].mean.item()
    std = load_model(tmp_path / "run")[0].std.item()
    given = {"data": "digits", "eps": 0.1, "attack": "fgsm", "limit": 50}
    theirs = evaluate(**given, weights=file, model="digits-cnn", input_mean=mean, input_std=std, out=tmp_path / "e")
    assert theirs.clean.accuracy == evaluate(**given, weights=tmp_path / "run", out=tmp_path / "own").clean.accuracy
    started = train(data="digits", model="digits-cnn", init=f"{file}:net", updates=1, lr=1e-9, out=tmp_path / "on")
    torch.testing.assert_close(started.state_dict()["1.0.weight"], bare["0.weight"])
    table = score(
        data="digits",
        model="digits-cnn",
        checkpoints=f"{tmp_path / 'all'}:net",
        input_mean=mean,
        input_std=std,
        out=tmp_path / "s",
    )
    assert np.isfinite(table["aign"]).all()


LIGHTNING = """
import lightning, sys, torch
from torch import nn
class Lit(lightning.LightningModule):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
data = torch.utils.data.TensorDataset(torch.rand(64, 1, 8, 8), torch.arange(64) % 10)
trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                            enable_checkpointing=False, enable_model_summary=False)
trainer.fit(Lit(), torch.utils.data.DataLoader(data, 16))
trainer.save_checkpoint(sys.argv[1])
"""


@pytest.mark.slow
def test_a_checkpoint_of_a_real_lightning_trainer(tmp_path, cli, monkeypatch):
    pytest.importorskip("lightning")
    file = tmp_path / "last.ckpt"
    subprocess.run([sys.executable, "-c", LIGHTNING, str(file)], check=True, capture_output=True, cwd=tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    ran = cli(
        "evaluate",
        "--data",
        "digits",
        "--weights",
        file,
        "--model",
        "nets:make",
        "--attack",
        "fgsm",
        "--eps",
        "0.1",
        "--limit",
        20,
        "--out",
        tmp_path / "out",
    )
    assert ran.code == 0, ran.err


def test_safetensors_of_a_part(tmp_path):
    save_file(prefixed("model."), tmp_path / "w.safetensors")
    assert set(read_state(tmp_path / "w.safetensors", {"network": STATE}, "it")[1]) == set(STATE)
    with pytest.raises(UsageError, match=r"w\.safetensors.*\b2 keys\b.*3\.bias, 4\.bias"):
        read_state(
            tmp_path / "w.safetensors",
            {"network": {**{k: v for k, v in STATE.items() if k != "3.bias"}, "4.bias": STATE["3.bias"]}},
            "it",
        )
