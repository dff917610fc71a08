"""Temperature and expected calibration error, on logits whose calibration is known."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss

from easycoreset import evaluate, load_model, open_source, predict, train
from easycoreset.calibration import expected_calibration_error, fit_temperature, measure_calibration


def draw(count, temperature, classes=4, seed=0):
    """Logits, and labels drawn from the softmax of the logits divided by a temperature."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(count, classes))
    p = np.exp(logits / temperature)
    p /= p.sum(1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in p])
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(temperature):
    logits, labels = draw(4000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.12)
    measured = measure_calibration(logits, labels)
    assert measured["calibrated_error"] < 0.03 and measured["temperature"] == found
    if temperature != 1.0:
        assert measured["error"] > 3 * measured["calibrated_error"]

    def loss(value):
        z = logits.astype(float) / value
        p = np.exp(z - z.max(1, keepdims=True))
        return log_loss(labels, p / p.sum(1, keepdims=True))

    assert loss(found) <= min(loss(found * 1.02), loss(found / 1.02))


def test_few_samples_have_none_and_the_calibrated_error_is_of_other_samples():
    logits, labels = draw(49, 1.0)
    assert fit_temperature(logits, labels) is None
    few = measure_calibration(*draw(99, 1.0))
    assert few["samples"] == 99 and {value for name, value in few.items() if name != "samples"} == {None}
    logits, labels = np.eye(2, dtype=np.float32)[np.arange(200) % 2] * 9, np.random.default_rng(1).integers(0, 2, 200)
    found = measure_calibration(logits, labels)  # as sure as right by chance: other folds cannot know that exactly
    assert found["error"] > 0.3 and 0 < found["calibrated_error"] < 0.15


def test_where_a_model_errs_nowhere_it_is_no_surer_than_so_many_samples_allow():
    logits = np.eye(2, dtype=np.float32)[np.arange(200) % 2] * 9
    found = fit_temperature(logits, np.arange(200) % 2)
    assert 1 / (1 + np.exp(-9 / found)) == pytest.approx(201 / 202, abs=1e-4)  # as Platt's targets


def test_the_error_by_hand():
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.45, 0.55]])
    labels = np.array([0, 1, 0, 1])
    # bins of 1/15: 0.95 twice (one right), 0.6, 0.55
    assert expected_calibration_error(p, labels) == pytest.approx((2 * 0.45 + 0.4 + 0.45) / 4)


def test_predict_divides_by_it(tmp_path, digits):
    train(data="digits", epochs=2, val_fraction=0.2, out=tmp_path / "held")
    card = json.loads((tmp_path / "held" / "model.json").read_text())
    assert 0.05 < card["temperature"] < 20
    assert json.loads((tmp_path / "held" / "best" / "model.json").read_text())["temperature"] is not None
    x = digits.splits["test"].images.pixels[:40]
    np.savez(tmp_path / "x.npz", x=x.numpy())
    logits = load_model(tmp_path / "held")(x.permute(0, 3, 1, 2).float() / 255)
    expected = torch.softmax(logits / card["temperature"], 1).amax(1).detach().numpy()
    given = {"data": str(tmp_path / "x.npz"), "weights": tmp_path / "held"}
    assert predict(**given, out=tmp_path / "a")["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
    raw = predict(**given, calibrated=False, out=tmp_path / "b")["probability"].to_numpy()
    assert raw == pytest.approx(torch.softmax(logits, 1).amax(1).detach().numpy(), abs=1e-5)


def test_an_evaluation_beside_the_model_has_it(tmp_path, caplog):
    train(data="digits", epochs=2, out=tmp_path / "model")
    data = {"data": "digits", "weights": tmp_path / "model"}
    source = open_source("digits")
    np.savez(tmp_path / "x.npz", x=source.splits["test"].images.pixels[:20].numpy())
    given = {"data": str(tmp_path / "x.npz"), "weights": tmp_path / "model"}
    before = predict(**given, out=tmp_path / "before")
    assert json.loads((tmp_path / "before" / "run.json").read_text())["summary"]["temperature"] is None
    evaluate(**data, attack=["fgsm"], eps=[0.1], out=tmp_path / "model")
    found = json.loads((tmp_path / "model" / "evaluation.json").read_text())["summary"]["calibration"]
    assert found["samples"] == len(source.splits["test"])
    after = predict(**given, out=tmp_path / "after")
    assert json.loads((tmp_path / "after" / "run.json").read_text())["summary"]["temperature"] == found["temperature"]
    assert (before["pred"].to_numpy() == after["pred"].to_numpy()).all()
    assert not np.allclose(before["probability"].to_numpy(), after["probability"].to_numpy())
    train(data="digits", epochs=1, out=tmp_path / "other")  # an evaluation of other weights does not count
    (tmp_path / "other" / "evaluation.json").write_bytes((tmp_path / "model" / "evaluation.json").read_bytes())
    predict(**given | {"weights": tmp_path / "other"}, out=tmp_path / "labels")
    assert json.loads((tmp_path / "labels" / "run.json").read_text())["summary"]["temperature"] is None
    evaluate(**data, split="train", limit=200, attack=["fgsm"], eps=[0.1], out=tmp_path / "seen")
    assert "calibration" not in json.loads((tmp_path / "seen" / "evaluation.json").read_text())["summary"]
    assert pq.read_table(tmp_path / "after" / "labels.parquet").equals(after)
