"""Options and metrics in TensorBoard, MLflow and Weights & Biases, read back from the folder by the real libraries."""

import json
import struct
import sys

import pytest

from easycoreset import UsageError, score, train
from easycoreset.options import TrainOptions
from easycoreset.tracking import track_epochs
from easycoreset.training import Epoch
from support.messages import named

NAMES = {"loss", "lr", "seconds", "updates"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, {"WANDB_ERROR_REPORTING": "false"}.get(name, "true"))


def lines(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(data="digits", epochs=2, val_fraction=0.1, track="tensorboard", out=tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == NAMES | {"val_clean", "val_robust"}
    for name in ("loss", "val_clean", "val_robust"):
        seen = [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
        assert [(line["epoch"], line[name]) for line in lines(tmp_path)] == seen
    (text,) = (events.Tensors(tag)[0].tensor_proto.string_val[0] for tag in events.Tags()["tensors"])
    assert b"| val_fraction | 0.1 |" in text


def read_mlflow(folder):
    from mlflow import MlflowClient

    database = folder / "mlflow" / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}" if database.exists() else (folder / "mlflow").as_uri())
    place = client.get_experiment_by_name("easycoreset").experiment_id
    return client, client.search_runs([place])


def test_mlflow_goes_on_with_its_run(tmp_path):
    pytest.importorskip("mlflow")
    options = TrainOptions(data="digits", epochs=3, track="mlflow", out=tmp_path)

    def epochs(numbers):
        yield from (Epoch(n, None, {"epoch": n, "loss": 1 / n, "lr": None}, None) for n in numbers)  # pyright: ignore

    cut = track_epochs(epochs([1, 2]), options, tmp_path)
    next(cut)
    cut.close()
    assert [run.info.status for run in read_mlflow(tmp_path)[1]] == ["FAILED"]
    assert [epoch.number for epoch in track_epochs(epochs([1, 2, 3]), options, tmp_path)] == [1, 2, 3]
    client, (run,) = read_mlflow(tmp_path)
    assert run.info.status == "FINISHED" and run.data.params["epochs"] == "3" and run.data.params["data"] == "digits"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(value.step, value.value) for value in history] == [(1, 1), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert set(run.data.metrics) == {"loss"} and run.info.run_name == tmp_path.name


def test_score_is_tracked_too_and_no_other_run_for_it(tmp_path):
    pytest.importorskip("mlflow")
    score(data="digits", epochs=2, track="mlflow", out=tmp_path)
    _, (run,) = read_mlflow(tmp_path)
    assert run.data.metrics["loss"] == pytest.approx(lines(tmp_path)[-1]["loss"]) and set(run.data.metrics) == NAMES
    score(data="digits", epochs=2, out=tmp_path)  # finished already, and with or without a tracker the same run
    assert len(read_mlflow(tmp_path)[1]) == 1


def read_wandb(file):
    """The records of a run that was not sent: 7 bytes, then blocks of 32 KiB of (checksum, length, kind) and bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = file.read_bytes()
    place = 7
    whole = b""
    while place < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    train(data="digits", epochs=2, track="wandb", out=tmp_path)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    found = []
    config = {}
    for record in read_wandb(file):
        if record.HasField("history"):
            found.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
        config |= {item.key or ".".join(item.nested_key): item.value_json for item in record.run.config.update}
    assert [(line["_step"], pytest.approx(line["loss"])) for line in found] == [
        (line["epoch"], line["loss"]) for line in lines(tmp_path)
    ]
    assert found[0].keys() >= NAMES and config["epochs"] == "2"


def test_of_several_processes_the_first_alone_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("easycoreset.tracking.is_main_process", lambda: False)
    options = TrainOptions(data="digits", epochs=1, track="tensorboard", out=tmp_path)
    assert list(track_epochs(iter([1, 2]), options, tmp_path)) == [1, 2] and not list(tmp_path.iterdir())


def test_a_tracker_that_fails_does_not_stop_the_training(tmp_path, monkeypatch, caplog):
    pytest.importorskip("tensorboard")

    def fail(*given):
        raise OSError("the disk is gone")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    train(data="digits", epochs=1, track="tensorboard", out=tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert named(caplog.text, "tensorboard", "epoch 1 ", "the disk is gone")


@pytest.mark.parametrize("kind", ["mlflow", "wandb", "tensorboard"])
def test_a_missing_extra_is_one_line_before_training(cli, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    ran = cli("score", "--data", "digits", "--epochs", "1", "--track", kind, "--out", tmp_path / "run")
    assert ran.code == 2 and named(ran.err, f"track {kind} ", "pip install easycoreset[track]")
    assert not (tmp_path / "run").exists()


def test_the_choices_are_closed(tmp_path):
    with pytest.raises(UsageError, match="track.*mlflow, wandb, tensorboard.*'mflow'.*'mlflow'"):
        train(data="digits", epochs=1, track="mflow", out=tmp_path)
