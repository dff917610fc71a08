"""timm: models by name that come back from disk, and coresets of its data sets in its own loaders."""

import json
import sys

import numpy as np
import pytest
import torch
from test_models import card

from easycoreset import Coreset, Scores, UsageError, load_model
from easycoreset.errors import EasycoresetWarning
from easycoreset.models import build_model
from easycoreset.models.normalize import Normalize
from support.messages import named

timm = pytest.importorskip("timm")
STEM = "stem for ImageNet"


@pytest.mark.parametrize(
    ("name", "shape"),
    [("test_resnet", (1, 8, 8)), ("test_resnet", (3, 40, 32)), ("test_vit", (3, 32, 32)), ("test_vit", (1, 48, 64))],
)
def test_models_take_the_images_as_they_are(name, shape):
    with pytest.warns(EasycoresetWarning, match=f"timm:{name} .*{STEM}"):
        model = build_model(card(f"timm:{name}", shape, 7))
    assert isinstance(model[0], Normalize) and model(torch.rand(2, *shape)).shape == (2, 7)
    x = torch.rand(2, *shape)
    torch.testing.assert_close(model.eval()(x), model[1]((x - 0.5) / 0.2))


def test_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr("timm.models._builder.load_pretrained", None)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    with pytest.warns(EasycoresetWarning, match=STEM):
        build_model(card("timm:test_resnet.r160_in1k", (3, 32, 32)))


def test_wrong_use_is_named(monkeypatch):
    for name, match in [
        ("resnet10tt", "'timm:resnet10tt'.*'timm:resnet10t'"),
        ("hf-hub:someone/something", "'timm:hf-hub:someone/something'"),
        ("test_vit_relpos", r"'timm:test_vit_relpos'.*\(1, 8, 8\)"),
    ]:
        with pytest.raises(UsageError, match=match):
            build_model(card(f"timm:{name}", (1, 8, 8)))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"'timm:test_vit'.*pip install easycoreset\[timm\]"):
        build_model(card("timm:test_vit"))


def test_the_commands_take_them(cli, tmp_path):
    ran = cli("score", "--data", "digits", "--model", "timm:test_resnet", "--epochs", "1", "--out", tmp_path)
    assert ran.code == 0 and STEM in ran.err
    scores = Scores.read(tmp_path / "scores.parquet")
    assert np.isfinite(scores["aign"]).all() and "grand" in scores.columns
    assert json.loads((tmp_path / "model.json").read_text())["model"] == "timm:test_resnet"
    assert not load_model(tmp_path).training
    refused = cli("train", "--data", "digits", "--model", "timm:test_vit", "--epochs", "1", "--out", tmp_path / "vit")
    assert refused.code == 2 and named(refused.err, "float32", "(1, 8, 8)")
    assert refused.err.count("\n") <= 3


@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")  # timm leaves them open
def test_a_coreset_of_its_data_set_in_its_loader(png_folder):
    data = timm.data.ImageDataset(str(png_folder))
    kept = np.arange(0, len(data), 3)
    labels = np.array([label for _, label in data])
    coreset = Coreset.from_order(
        kept,
        Scores(
            sample_ids=[str(i) for i in range(len(data))],
            labels=labels,
            class_names=["0", "1", "2"],
            n_obs=np.ones(len(data), np.int32),
            columns={},
        ),
    )
    view = coreset.apply(data)
    assert len(view) == 12 and [view[i][1] for i in range(12)] == labels[kept].tolist()
    loader = timm.data.create_loader(
        view,
        (3, 16, 16),
        5,
        is_training=False,
        use_prefetcher=False,
        num_workers=0,
        device=torch.device("cpu"),
        persistent_workers=False,
    )
    batches = list(loader)
    assert [len(x) for x, _ in batches] == [5, 5, 2] and batches[0][0].shape == (5, 3, 16, 16)
    assert torch.cat([y for _, y in batches]).tolist() == labels[kept].tolist()
    torch.testing.assert_close(batches[0][0][1], data[3][0])
