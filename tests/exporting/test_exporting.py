"""Handing over: RobustBench's JSON, and ONNX that gives the same logits."""

import json
import sys

import numpy as np
import pytest
import torch
from onnx import load
from onnx.reference import ReferenceEvaluator

from easycoreset import UsageError, evaluate, export, load_model, train
from support.messages import named


@pytest.mark.slow
def test_export_for_robustbench(scored, tmp_path, cli):
    given = {"data": "digits", "weights": scored, "limit": 20, "batch_size": 20, "out": tmp_path / "e"}
    result = evaluate(**given, attack=["pgd", "autoattack"], eps=[8 / 255])
    ran = cli(
        "export", "--format", "robustbench", "--source", tmp_path / "e", "--out", tmp_path / "model.json", "--json"
    )
    assert ran.code == 0 and ran.json["file"] == str(tmp_path / "model.json")
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["dataset"] == "digits" and record["architecture"] == "digits-cnn" and record["threat_model"] == "Linf"
    assert record["eps"] == "8/255" and record["clean_acc"] == f"{100 * result.clean.accuracy:.2f}"
    assert record["autoattack_acc"] == f"{100 * result.attacked[1].accuracy:.2f}" and "20 samples" in record["footnote"]
    evaluate(**{**given, "out": tmp_path / "p"}, attack="pgd", eps=[8 / 255])
    ran = cli("export", "--format", "robustbench", "--source", tmp_path / "p", "--out", tmp_path / "no.json")
    assert ran.code == 2 and named(ran.err, "standard autoattack", "eps") and not (tmp_path / "no.json").exists()
    ran = cli("export", "--format", "robustbnch", "--source", tmp_path / "p", "--out", tmp_path / "no.json")
    assert ran.code == 2


@pytest.mark.filterwarnings("ignore")  # of the exporter's own
def test_onnx_gives_the_logits_at_any_batch_size(scored, tmp_path, digits):
    export(format="onnx", source=scored, out=tmp_path / "model.onnx")
    session = ReferenceEvaluator(load(str(tmp_path / "model.onnx")))
    batch = next(digits.splits["test"].batches(np.arange(40), 40))
    with torch.no_grad():
        expected = load_model(scored)(batch.x).numpy()
    (found,) = session.run(None, {"images": batch.x.contiguous().numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_onnx_wrong_use(scored, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"^out.*\.onnx\b.*model\.json"):
        export(format="onnx", source=scored, out=tmp_path / "model.json")
    with pytest.raises(UsageError, match=r"model\.json"):
        export(format="onnx", source=tmp_path, out=tmp_path / "model.onnx")
    train(data="digits", model="tests.support.factories:plain", updates=1, out=tmp_path / "own")
    with pytest.raises(UsageError, match=r"model\.json.*'tests\.support\.factories:plain'.*\bmodel\b"):
        export(format="onnx", source=tmp_path / "own", out=tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"onnx.*pip install easycoreset\[onnx\]"):
        export(format="onnx", source=scored, out=tmp_path / "model.onnx")
