"""Training: budgets, schedules, seeds, weights, and what stops a run before or in the middle."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from easycoreset import (
    Coreset,
    HardnessRecorder,
    RunError,
    Scores,
    UsageError,
    choose,
    load_model,
    score,
    select,
    train,
)
from easycoreset.options import TrainOptions
from easycoreset.tables.holdout import hold_out
from easycoreset.training import fit, fresh_model, prepare
from easycoreset.training.schedule import learning_rate
from easycoreset.training.setup import use_autocast
from easycoreset.training.validation import _robust_accuracy, _warn_of_collapse
from support.messages import named


def job(tmp_path, **options):
    given = {"data": "digits", "out": tmp_path / "unused", "epochs": 2, **options}
    chosen = TrainOptions(**given)
    return prepare(chosen, epochs=chosen.epochs, updates=chosen.updates)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_budgets(tmp_path):
    by_epochs = job(tmp_path, epochs=3, batch_size=100)
    assert (by_epochs.steps_per_epoch, by_epochs.updates, by_epochs.epochs) == (15, 45, 3)
    by_updates = job(tmp_path, epochs=None, updates=40, batch_size=100)
    assert (by_updates.steps_per_epoch, by_updates.updates, by_updates.epochs) == (15, 40, 3)
    model = fresh_model(by_updates)
    history = []
    metrics = [epoch.metrics for epoch in fit(by_updates, model, history=history)]
    assert [line["updates"] for line in history] == [15, 30, 40] and metrics == history
    alone = job(tmp_path, batch_size=479)  # 1438 = 3 * 479 + 1: a batch of one sample has no batch statistics
    assert alone.steps_per_epoch == 3


def test_every_sample_is_seen_once_an_epoch(tmp_path):
    seen = []

    class Spy(HardnessRecorder):
        def watch(self, x, index, *more):
            seen.append(index)
            return super().watch(x, index, *more)

        def end_epoch(self):
            seen.append(None)
            super().end_epoch()

    for _ in fit(one := job(tmp_path, batch_size=500), fresh_model(one), recorder=Spy(1438)):
        pass
    cuts = [place for place, item in enumerate(seen) if item is None]
    epochs = [torch.cat(seen[: cuts[0]]), torch.cat(seen[cuts[0] + 1 : cuts[1]])]
    assert all(np.array_equal(np.sort(e), np.arange(1438)) for e in epochs) and not torch.equal(*epochs)


def test_same_seed_same_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(
            data="digits",
            epochs=2,
            seed=seed,
            augment="crop-flip",
            model="tests.support.factories:with_dropout",
            out=tmp_path / name,
        )
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b) and not same(a, c)


def test_a_finished_run_is_returned_and_other_options_are_refused(tmp_path):
    model = train(data="digits", epochs=1, out=tmp_path / "run")
    stamp = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = train(data="digits", epochs=1, threads=1, out=tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == stamp and not again.training
    assert same(model.state_dict(), again.state_dict())
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    with pytest.raises(UsageError, match=r"run\.json.*batch_size=128.*64.*epochs=1.*2"):
        train(data="digits", epochs=2, batch_size=64, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"run\.json.*'train'"):
        score(data="digits", epochs=1, out=tmp_path / "run")
    train(data="digits", epochs=2, overwrite=True, out=tmp_path / "run")
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2


def test_a_coreset_is_what_is_trained_on(tmp_path, scored, digits):
    scores = Scores.read(scored / "scores.parquet")
    coreset = choose(scores, method="easycore", fraction=0.3, per_class=True)
    coreset.write(tmp_path / "coreset.parquet")
    assert np.array_equal(job(tmp_path, coreset=tmp_path / "coreset.parquet").train_indices, coreset.index)
    order = np.flatnonzero(coreset.keep)
    weighted = Coreset.from_order(order, scores, weight=np.linspace(1, 3, len(order)).astype(np.float32))
    weighted.write(tmp_path / "weighted.parquet")
    one = job(tmp_path, coreset=tmp_path / "weighted.parquet")
    assert one.weight is not None and one.weight[order].mean() == pytest.approx(1)
    for name in ("coreset", "weighted"):
        train(data="digits", epochs=1, coreset=tmp_path / f"{name}.parquet", out=tmp_path / name)
    assert not same(weights(tmp_path / "coreset"), weights(tmp_path / "weighted"))
    with pytest.raises(UsageError, match=r"^out: .*\bcoreset="):
        train(data="digits", epochs=1, coreset=tmp_path / "weighted.parquet", out=tmp_path / "coreset")
    np.savez(
        tmp_path / "other.npz",
        x=np.zeros((1438, 8, 8), np.uint8),
        y=digits.splits["train"].labels,
        x_test=np.zeros((9, 8, 8), np.uint8),
        y_test=np.arange(9),
    )
    with pytest.raises(UsageError, match=r"coreset.*\b1438\b.*\b0\b"):
        train(data=str(tmp_path / "other.npz"), epochs=1, coreset=tmp_path / "coreset.parquet", out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_schedules():
    peak = {"onecycle": 0.3, "cosine": 0.0, "step": 0.0, "constant": 0.5}
    for kind, where in peak.items():
        rates = [learning_rate(kind, p) for p in np.linspace(0, 0.999, 200)]
        assert all(0 <= rate <= 1 for rate in rates) and learning_rate(kind, where) == pytest.approx(1)
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(reference, 0.1, total_steps=1001, cycle_momentum=False)
    for step in range(1000):
        assert reference.param_groups[0]["lr"] == pytest.approx(0.1 * learning_rate("onecycle", step / 1000), abs=1e-3)
        reference.step()
        one_cycle.step()
    assert [learning_rate("step", p) for p in (0, 0.74, 0.76, 0.89, 0.91)] == [1, 1, 0.1, 0.1, 0.01]


@pytest.mark.parametrize("objective", ["standard", "trades:steps=2:eps=0.1"])
def test_it_learns(tmp_path, objective, digits):
    model = train(data="digits", updates=100, objective=objective, out=tmp_path / "run")
    batch = next(digits.splits["test"].batches(np.arange(359), 359))
    assert (model(batch.x).argmax(1) == batch.y).float().mean() > 0.9
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert card["eps"] == (None if objective == "standard" else 0.1)
    assert card["provenance"]["fingerprint"] == digits.splits["train"].fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["standard", "trades:eps=0.1:steps=2"])
def test_compiled_training_gives_the_same_model_within_rounding(objective, tmp_path):
    plain = train(data="digits", updates=12, objective=objective, out=tmp_path / "plain")
    compiled = train(data="digits", updates=12, objective=objective, compile=True, out=tmp_path / "compiled")
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("objective", "precision", "graphs"),
    [("standard", "fp32", 1), ("trades:steps=2", "fp32", 4), ("trades:steps=2", "bf16", 4)],
)
@pytest.mark.slow
def test_one_shape_is_compiled_for_each_use_of_the_model(objective, precision, graphs, tmp_path, monkeypatch):
    """An epoch ends with a smaller batch, which is not compiled; TRADES runs the model in four ways."""
    compile_model = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, mode, **given: compile_model(model, backend="eager", **given))
    torch._dynamo.reset()
    counters.clear()
    common = {"data": "digits", "epochs": 2, "batch_size": 300, "objective": objective, "precision": precision}
    compiled = train(**common, compile=True, out=tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"] == graphs and not counters["graph_break"]
    plain = train(**common, out=tmp_path / "plain")
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize("in_hardware", [True, False])
def test_auto_asks_whether_the_card_has_bf16_in_hardware(in_hardware, monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert use_autocast("auto", cuda) is in_hardware and not use_autocast("auto", cpu)
    assert use_autocast("bf16", cuda) and not use_autocast("fp32", cuda)


def test_bf16(tmp_path, digits):
    model = train(data="digits", epochs=4, precision="bf16", out=tmp_path / "run")
    assert next(model.parameters()).dtype == torch.float32
    batch = next(digits.splits["test"].batches(np.arange(359), 359))
    assert (model(batch.x).argmax(1) == batch.y).float().mean() > 0.8


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 1, "updates": 1}, "epochs.*updates.*both"),
        ({}, "epochs.*updates.*neither"),
        ({"epochs": 0}, r"epochs.*\b0$"),
        ({"updates": -3}, "updates.*-3$"),
        ({"epochs": 1, "seed": -1}, r"seed.* -1$"),
        ({"epochs": 1, "batch_size": 0}, r"batch_size.*\b0$"),
        ({"epochs": 1, "lr": float("nan")}, r"lr.*\bnan$"),
        ({"epochs": 1, "momentum": 1.0}, r"momentum.*\b1\.0$"),
        ({"epochs": 1, "eps": 0.1}, "'standard'.*'eps'"),
        ({"epochs": 1, "device": "mps"}, "device.*'mps'"),
        ({"epochs": 1, "model": "tests.support.factories:wrong_shape"}, r"logits \[2, 10\]; got \(2, 4\)"),
        ({"epochs": 1, "model": "tests.support.factories:only_eval"}, r"tests\.support\.factories:only_eval.*\b8\b"),
        ({"epochs": 1, "model": "thin-resnet", "batch_size": 1}, r"thin-resnet.*\b1\b"),
        ({"epochs": "3"}, "epochs.*'3'$"),
        ({"epochs": 3.5}, r"epochs.*3\.5$"),
        ({"epochs": 1, "device": "gpu"}, "device.*auto, cpu, cuda, mps.*'gpu'"),
        ({"epochs": 1, "data": 3}, "data.* 3$"),
        ({"epochs": 1, "model": "tests.support.factories:not_finite"}, r"model.*\blogits\b"),
        ({"epochs": 1, "model": "tests.support.factories:plain", "data": "cifar"}, "'cifar'.*'cifar"),
        ({"epochs": 1, "coreset": "none.parquet"}, r"none\.parquet"),
    ],
)
def test_wrong_use_is_found_before_anything_is_written(tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        train(**{"data": "digits", "out": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_or_goes_on(tmp_path, caplog):
    with pytest.raises(RunError, match=r"loss.*--on-nan continue"):
        train(data="digits", epochs=2, lr=50, model="tests.support.factories:exploding", out=tmp_path / "stops")
    assert not (tmp_path / "stops" / "model.safetensors").exists()
    train(
        data="digits",
        epochs=2,
        lr=50,
        model="tests.support.factories:exploding",
        on_nan="continue",
        out=tmp_path / "goes",
    )
    lines = [json.loads(line) for line in (tmp_path / "goes" / "history.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] > 0 and lines[1]["loss"] is None  # the finite steps' mean; no step was finite
    assert (
        "continuing" in caplog.text and load_model(tmp_path / "goes", "tests.support.factories:exploding") is not None
    )


def test_a_corrupt_checkpoint_or_record_is_named(tmp_path, monkeypatch):
    again = {"data": "digits", "epochs": 3, "out": tmp_path / "run"}

    def stop(job, model, history):
        if len(history) == 2:
            raise KeyboardInterrupt
        return False

    with monkeypatch.context() as patch:
        patch.setattr("easycoreset.training.validate_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(**again)
    for content in (b"", b"junk", b"PK\x03\x04"):
        (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"checkpoint\.pt.*corrupt.*--overwrite"):
            train(**again)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json.*corrupt.*--overwrite"):
        train(**again)
    train(data="digits", epochs=1, overwrite=True, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_folder_that_is_not_ours_is_neither_used_nor_emptied(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "mine" / "checkpoint.pt").write_text("somebody else's")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"out: .*mine.*run\.json.*thesis\.txt"):
            train(data="digits", epochs=1, overwrite=overwrite, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="^out: .*file"):
        train(data="digits", epochs=1, out=tmp_path / "file" / "run")


def test_the_average_of_the_weights_becomes_the_model(tmp_path):
    one = job(tmp_path, epochs=1, batch_size=500, ema=0.5)
    model = fresh_model(one)
    seen = []
    step = torch.optim.SGD.step
    try:
        torch.optim.SGD.step = lambda self, *a: (step(self, *a), seen.append(model[1][0].weight.detach().clone()))[0]
        for epoch in fit(one, model):
            assert torch.equal(epoch.model[1][0].weight, seen[-1])  # what is scored is the model as it is trained
    finally:
        torch.optim.SGD.step = step
    expected = seen[0]
    for place, weight in enumerate(seen[1:], 1):
        decay = min(0.5, (1 + place) / (10 + place))  # a short run is averaged over less
        expected = decay * expected + (1 - decay) * weight
    assert len(seen) == 3 and torch.allclose(model[1][0].weight, expected, atol=1e-6)


def test_validation_looks_at_the_average_and_at_every_class(tmp_path, digits):
    train(data="digits", epochs=3, ema=0.9, val_fraction=0.3, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    split = digits.splits["train"]
    held = hold_out(digits.splits["train"].labels, 0.3)[1]
    batch = next(split.batches(held, len(held)))
    with torch.no_grad():
        found = (load_model(tmp_path / "run")(batch.x).argmax(1) == batch.y).double().mean()
    assert float(found) == pytest.approx(lines[-1]["val_clean"])
    order = np.argsort(split.labels, kind="stable")
    pixels = split.images.pixels.numpy()[..., 0] if hasattr(split.images, "pixels") else None
    np.savez(tmp_path / "sorted.npz", x=pixels[order], y=split.labels[order])
    one = prepare(TrainOptions(data=str(tmp_path / "sorted.npz"), epochs=1, out=tmp_path / "x"), epochs=1, updates=None)
    seen = []
    original = type(one.split).batches
    try:
        type(one.split).batches = lambda self, rows, *a, **k: seen.append(rows) or original(self, rows, *a, **k)
        _robust_accuracy(fresh_model(one), one, one.train_indices)
    finally:
        type(one.split).batches = original
    assert set(one.split.labels[seen[-1]]) == set(range(10))


def test_the_average_survives_a_stop(tmp_path):
    given = {"data": "digits", "epochs": 3, "ema": 0.9}
    train(**given, out=tmp_path / "whole")
    one = job(tmp_path, epochs=3, ema=0.9)
    (tmp_path / "cut").mkdir()
    for epoch in fit(one, fresh_model(one), folder=tmp_path / "cut"):
        if epoch.number == 2:
            break  # the checkpoint is that of epoch 1
    model = fresh_model(one)
    for _ in fit(one, model, folder=tmp_path / "cut"):
        pass
    assert same(weights(tmp_path / "whole"), model.state_dict())


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_validation_rows_are_held_out_of_choice_and_training(tmp_path, scored, digits):
    scores = Scores.read(scored / "scores.parquet")
    _, held = hold_out(digits.splits["train"].labels, 0.2)
    for method in ("easycore", "random", "hardest:loss", "tests.support.factories:first_rows"):
        coreset = choose(scores, method=method, fraction=0.5, val_fraction=0.2)
        assert len(coreset) == round(0.5 * (1438 - len(held))) and not coreset.keep[held].any()
    easiest = np.argsort(np.where(np.isin(np.arange(1438), held), np.inf, scores["aign"]), kind="stable")[
        : len(coreset)
    ]
    assert set(choose(scores, method="easycore", fraction=0.5, val_fraction=0.2).index) == set(easiest)
    assert set(job(tmp_path, val_fraction=0.2).train_indices) == set(range(1438)) - set(held)
    select(scores=scored / "scores.parquet", fraction=0.5, val_fraction=0.2, out=tmp_path / "held.parquet")
    select(scores=scored / "scores.parquet", fraction=0.5, out=tmp_path / "all.parquet")
    assert len(job(tmp_path, coreset=tmp_path / "held.parquet", val_fraction=0.2).train_indices) == len(coreset)
    with pytest.raises(UsageError, match=r"val_fraction.*\d+ of\b.*\b287\b.*--val-fraction 0\.2"):
        job(tmp_path, coreset=tmp_path / "all.parquet", val_fraction=0.2)


def test_the_best_epoch_on_held_out_rows_is_kept_beside_the_last(tmp_path, digits):
    train(data="digits", epochs=4, objective="pgd-at:steps=2", eps=0.1, val_fraction=0.2, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert all(0 <= line["val_robust"] <= line["val_clean"] <= 1 for line in lines)
    best = max(lines, key=lambda line: line["val_robust"])
    card = json.loads((tmp_path / "best" / "model.json").read_text())
    assert card["provenance"]["epoch"] == best["epoch"]
    split = digits.splits["train"]
    held = hold_out(digits.splits["train"].labels, 0.2)[1]
    batch = next(split.batches(held, len(held)))
    with torch.no_grad():
        found = (load_model(tmp_path / "best")(batch.x).argmax(1) == batch.y).double().mean()
    assert float(found) == pytest.approx(best["val_clean"])


@pytest.mark.parametrize("objective", ["trades:eps=0.1:steps=2", "mart:eps=0.1:steps=2"])
@pytest.mark.slow
def test_bf16_trains_adversarially_with_finite_losses(tmp_path, objective):
    train(data="digits", updates=25, objective=objective, precision="bf16", out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert all(0 < line["loss"] < 20 for line in lines) and lines[-1]["loss"] < lines[0]["loss"]
    assert all(value.dtype == torch.float32 for name, value in weights(tmp_path).items() if "num_batches" not in name)


def test_catastrophic_overfitting_is_said_once(caplog):
    for robust, said in (([0.2, 0.5, 0.3], 0), ([0.2, 0.5, 0.2], 1), ([0.2, 0.5, 0.2, 0.1], 0), ([0.0], 0)):
        caplog.clear()
        with caplog.at_level("WARNING", "easycoreset"):
            _warn_of_collapse(robust)
        assert caplog.text.count("overfitting") == said


def test_one_step_training_is_watched(tmp_path):
    train(data="digits", epochs=2, objective="fgsm-rs", eps=0.1, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert all(0 <= line["train_robust"] <= 1 for line in lines) and not (tmp_path / "best").exists()


@pytest.mark.slow
def test_a_profile_says_where_the_time_goes(tmp_path, cli):
    line = ("train", "--data", "digits", "--epochs", 3, "--objective", "trades:eps=0.1:steps=2", "--profile")
    ran = cli(*line, "--out", tmp_path / "t")
    assert ran.code == 0 and named(ran.err, "batch ", str(tmp_path / "t" / "profile.txt"))
    text = (tmp_path / "t" / "profile.txt").read_text()
    shares = {part: int(share) for part, share in re.findall(r"(\w+) (-?\d+)%", text.splitlines()[0])}
    assert list(shares) == ["batch", "forward", "backward", "update", "other"]
    assert shares["forward"] == max(shares.values()) and 97 <= sum(shares.values()) <= 103
    assert "convolution" in text and json.loads((tmp_path / "t" / "profile.json").read_text())["traceEvents"]
    train(data="digits", epochs=3, objective="trades:eps=0.1:steps=2", out=tmp_path / "plain")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("t", "plain")]
    assert weights[0] == weights[1]
    ran = cli("score", "--data", "digits", "--epochs", 1, "--batch-size", 512, "--profile", "--out", tmp_path / "s")
    assert ran.code == 0 and named(ran.err, "profile", "3 steps")
    assert not (tmp_path / "s" / "profile.txt").exists()
    ran = cli("score", "--data", "digits", "--epochs", 2, "--batch-size", 256, "--profile", "--out", tmp_path / "f")
    assert ran.code == 0 and (tmp_path / "f" / "profile.txt").exists()  # fewer steps than are looked at


@pytest.mark.skipif(torch.cuda.is_available(), reason="is refused without a GPU")
def test_cuda_graphs_need_a_gpu_and_compile(tmp_path, cli):
    line = ("train", "--data", "digits", "--epochs", 1, "--cuda-graphs", "--out", tmp_path / "t")
    ran = cli(*line)
    assert ran.code == 2 and named(ran.err, "cuda_graphs", "compile")
    ran = cli(*line, "--compile")
    assert ran.code == 2 and named(ran.err, "cuda_graphs", "GPU") and not (tmp_path / "t").exists()


def test_a_small_last_batch_is_left_out_of_its_epoch(tmp_path):
    """Of 20 and 33 samples in batches of 16 and 32: 4 are left to the last batch, and 1 is too few."""
    for count, size, steps in ((20, 16, 2), (33, 32, 1), (259, 128, 2), (272, 128, 3), (3, 16, 1)):
        labels = np.arange(count) % 3
        x = np.zeros((count, 8, 8), np.uint8)
        np.savez(tmp_path / f"{count}.npz", x=x, y=labels, x_test=x[:3], y_test=labels[:3])
        options = TrainOptions(
            data=str(tmp_path / f"{count}.npz"),
            model="digits-cnn",
            epochs=1,
            batch_size=size,
            out=tmp_path / str(count),
        )
        assert prepare(options, epochs=1, updates=None).steps_per_epoch == steps, (count, size)
