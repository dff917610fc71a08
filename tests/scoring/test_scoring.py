"""Scoring: what the run's folder holds, variants of the schedule, the test split, and coresets that score everything."""

import json
import shutil

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from conftest import close32
from easycoreset import RunError, Scores, UsageError, choose, input_gradient_norms, load_model, score
from easycoreset.hardness import load_hardness
from easycoreset.models.saved import load_weights
from support.messages import named

CHEAP = [measure.name for measure in load_hardness(())]


def test_the_folder(scored, digits):
    scores = Scores.read(scored / "scores.parquet")
    table = pq.read_table(scored / "scores.parquet")
    assert table.column_names == ["index", "sample_id", "label", "label_name", "n_obs", *CHEAP]
    assert table.num_rows == 1438 and (scores.n_obs == 5).all()
    assert all(np.isfinite(values).all() for values in scores.columns.values())
    assert list(scores.sample_ids) == list(digits.splits["train"].sample_ids)
    trajectory = ds.dataset(scored / "trajectory").to_table().to_pandas()
    assert len(trajectory) == 5 * 1438 and set(trajectory["epoch"]) == {1, 2, 3, 4, 5}
    np.testing.assert_allclose(trajectory.groupby("index")["aign"].mean(), scores["aign"], rtol=1e-6)
    record = json.loads((scored / "run.json").read_text())
    assert record["status"] == "done" and record["schema_version"] == 1 and record["summary"]["rows"] == 1438
    assert scores.provenance["fingerprint"] == digits.splits["train"].fingerprint
    frame = scores.to_pandas()
    assert frame["label_name"][0] == str(frame["label"][0])


def test_aign_is_the_mean_over_the_models_of_the_epochs(scored, digits):
    split = digits.splits["train"]
    model = load_model(scored)
    norms = []
    batch = next(split.batches(np.arange(1438), 1438))
    for epoch in range(1, 6):
        load_weights(model, scored / "checkpoints" / f"{epoch:04d}" / "model.safetensors")
        norms.append(input_gradient_norms(model, batch.x, batch.y).numpy())
    assert close32(Scores.read(scored / "scores.parquet")["aign"], np.mean(norms, 0))


def test_every_and_first(tmp_path, scored):
    whole = (
        ds.dataset(scored / "trajectory").to_table().to_pandas().pivot(index="index", columns="epoch", values="aign")
    )
    for options, epochs in [({"every": 2}, [2, 4]), ({"first": 3}, [1, 2, 3]), ({"every": 2, "first": 3}, [2])]:
        out = tmp_path / "-".join(options)
        scores = score(data="digits", epochs=5, hardness="aign", out=out, **options)
        np.testing.assert_allclose(scores["aign"], whole[epochs].mean(axis=1), rtol=1e-6)
        assert (scores.n_obs == len(epochs)).all()
    with pytest.raises(UsageError, match=r"\bepoch\b"):
        score(data="digits", epochs=5, every=3, first=2, out=tmp_path / "none")


def test_the_test_split_reuses_the_run(scored, digits):
    stamp = (scored / "model.safetensors").stat().st_mtime_ns
    scores = score(data="digits", epochs=5, split="test", out=scored)
    assert (scored / "model.safetensors").stat().st_mtime_ns == stamp
    assert len(scores) == 359 and scores.provenance["split"] == "test" and (scored / "trajectory_test").is_dir()
    assert scores.provenance["fingerprint"] == digits.splits["test"].fingerprint
    assert (scored / "scores_test.parquet").exists()


def test_the_test_split_needs_the_weights(tmp_path):
    score(data="digits", epochs=1, keep_checkpoints=False, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"^split: 'test'.*\[1\]"):
        score(data="digits", epochs=1, split="test", out=tmp_path / "run")


def test_online_scores_of_our_own_loop(tmp_path):
    online = score(data="digits", epochs=4, mode="online", augment="none", out=tmp_path / "online")
    assert {"aign_online", "loss_online", "grand_online"} <= set(online.columns) and (online.n_obs == 4).all()
    exact = score(data="digits", epochs=4, hardness="aign", out=tmp_path / "exact")
    ranks = [np.argsort(np.argsort(v)) for v in (online["aign_online"], exact["aign"])]
    assert np.corrcoef(*ranks)[0, 1] > 0.6
    trajectory = ds.dataset(tmp_path / "online" / "trajectory").to_table().to_pandas()
    np.testing.assert_allclose(trajectory.groupby("index")["aign_online"].mean(), online["aign_online"], rtol=1e-6)
    robust = score(data="digits", epochs=1, mode="online", objective="trades:steps=1:eps=0.1", out=tmp_path / "trades")
    assert {"grad_norm_online", "aum_online"} <= set(robust.columns) and not {"aign_online"} & set(robust.columns)
    assert json.loads((tmp_path / "trades" / "run.json").read_text())["summary"]["objective"].startswith("trades")


def test_online_equals_exact_where_nothing_moves(tmp_path):
    """Learning rate 0 and no batch norm: the online norms are the exact ones."""
    common = {"data": "digits", "model": "tests.support.factories:plain", "epochs": 2, "lr": 0, "weight_decay": 0}
    online = score(**common, mode="online", out=tmp_path / "online")
    exact = score(**common, out=tmp_path / "exact")
    names = [*exact.columns, "objective_loss"]
    assert list(online.columns) == [f"{name}_online" for name in names] and len(exact.columns) == 10
    np.testing.assert_allclose(online["objective_loss_online"], online["loss_online"], rtol=1e-5, atol=1e-6)
    for name in exact.columns:
        np.testing.assert_allclose(online[f"{name}_online"], exact[name], rtol=1e-4, atol=1e-6)
    variants = score(**common, mode="online", hardness=["aign:norm=l1"], out=tmp_path / "variants")
    expected = score(**common, hardness=["aign:norm=l1"], out=tmp_path / "expected")
    np.testing.assert_allclose(variants["aign_l1_online"], expected["aign_l1"], rtol=1e-4, atol=1e-6)


def test_a_coreset_trains_and_everything_is_scored(tmp_path, scored):
    choose(Scores.read(scored / "scores.parquet"), method="random", fraction=0.05).write(tmp_path / "few.parquet")
    scores = score(data="digits", epochs=2, coreset=tmp_path / "few.parquet", out=tmp_path / "run")
    assert len(scores) == 1438 and (scores.n_obs == 2).all()
    online = score(data="digits", epochs=2, coreset=tmp_path / "few.parquet", mode="online", out=tmp_path / "online")
    assert (online.n_obs > 0).sum() == 72 and np.isnan(online["aign_online"]).sum() == 1438 - 72
    few = choose(online, method="easycore", fraction=0.05)
    assert (online.n_obs[few.keep] > 0).all()


def test_scores_of_other_data_are_refused(tmp_path, scored):
    coreset = choose(Scores.read(scored / "scores.parquet"), method="random", fraction=0.5)
    coreset.provenance["fingerprint"] = "0" * 64
    coreset.write(tmp_path / "foreign.parquet")
    with pytest.raises(UsageError, match=r"\b0 sample ids\b.*\b0 labels\b.*000000000000"):
        score(data="digits", epochs=1, coreset=tmp_path / "foreign.parquet", out=tmp_path / "run")
    test_split = choose(score(data="digits", epochs=5, split="test", out=scored), method="random", fraction=0.5)
    test_split.write(tmp_path / "test.parquet")
    with pytest.raises(UsageError, match="'test'.*'train'"):
        score(data="digits", epochs=1, coreset=tmp_path / "test.parquet", out=tmp_path / "run")
    del coreset.provenance["fingerprint"]
    coreset.write(tmp_path / "anonymous.parquet")  # ids and labels agree: taken
    assert len(score(data="digits", epochs=1, coreset=tmp_path / "anonymous.parquet", out=tmp_path / "run")) == 1438


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 0}, "^epochs.* 0$"),
        ({"epochs": 2, "every": 3}, r"^every.*\bepochs=2\b.* 3$"),
        ({"epochs": 2, "first": 0}, "^first.* 0$"),
        ({"epochs": 2, "hardness": "agin"}, "'agin'.*'aign'"),
        ({"epochs": 2, "hardness": ["loss", "loss"]}, "^hardness.*'loss'"),
        ({"epochs": 2, "mode": "online", "hardness": "boundary"}, "online.*'boundary'"),
        ({"epochs": 2, "mode": "online", "split": "test"}, r"^split.*\btrain\b.*\bonline\b.*'test'"),
    ],
)
def test_wrong_use(tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        score(data="digits", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_test_split_is_scored_again_where_it_changed(tmp_path, digits):
    split = digits.splits["train"]
    pixels = split.images.pixels[..., 0].numpy()
    for rows in (9, 6):
        np.savez(tmp_path / "a.npz", x=pixels, y=split.labels, x_test=pixels[:rows], y_test=split.labels[:rows])
        scores = score(data=str(tmp_path / "a.npz"), epochs=1, model="digits-cnn", split="test", out=tmp_path / "run")
        assert len(scores) == rows and np.isfinite(scores["aign"]).all()


def test_tables_without_provenance_are_told_apart_by_their_rows(tmp_path, scored):
    import pyarrow.parquet as pq

    score(data="digits", epochs=5, split="test", out=scored)
    shutil.copytree(scored, tmp_path / "run")
    for name, rows in (("scores_test.parquet", 359), ("scores.parquet", 500)):
        table = pq.read_table(scored / name).replace_schema_metadata(None)
        pq.write_table(table.slice(0, rows), tmp_path / "run" / name)
        choose(Scores.read(tmp_path / "run" / name), method="random", fraction=0.5).write(tmp_path / "c.parquet")
        with pytest.raises(UsageError, match=f"\\b{rows}\\b.*\\b1438\\b"):
            score(data="digits", epochs=1, coreset=tmp_path / "c.parquet", out=tmp_path / "other")


def test_the_same_data_by_another_spelling_is_the_same_run(tmp_path, png_folder, monkeypatch):
    monkeypatch.chdir(png_folder.parent)
    for spelled in ("images", "images/", "./images", str(png_folder)):
        assert len(score(data=spelled, epochs=1, image_size=8, out=tmp_path / "run")) == 30


@pytest.mark.parametrize("mode", ["exact", "online"])
def test_values_that_are_not_finite_are_counted_and_left_out(mode, tmp_path, digits, caplog):
    """Seven bright images give NaN: with --on-nan continue their steps change nothing, and the others are scored."""
    model = "tests.support.factories:nan_for_bright_images"
    with pytest.raises(RunError, match=r"^loss\b.*--on-nan continue"):
        score(data="digits", model=model, epochs=2, batch_size=32, out=tmp_path / "stops")
    scores = score(
        data="digits", model=model, epochs=2, batch_size=32, mode=mode, on_nan="continue", out=tmp_path / "run"
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())["summary"]
    column = "aign" if mode == "exact" else "aign_online"
    lost = np.isnan(scores[column])
    bright = digits.splits["train"].images.pixels.float().div(255).sum((1, 2, 3)).numpy() > 25.33
    assert bright.sum() == 7 and lost[bright].all() and (scores.n_obs[bright] == 0).all()
    assert record["nonfinite"][column] == 2 * 7
    assert (lost == bright).all()
    if mode == "exact":
        assert named(caplog.text, "14 values", "aign", "2 epochs")
    assert np.isfinite(scores[column.replace("aign", "loss")][~bright]).all() and record["loss"] > 0
    assert torch.isfinite(load_model(tmp_path / "run", model).linear.weight).all()


@pytest.mark.slow
def test_the_pass_in_bf16_where_the_ranks_stay(tmp_path, monkeypatch, cli):
    common = {"data": "digits", "epochs": 2, "hardness": ("aign", "loss")}
    plain = score(**common, out=tmp_path / "a")
    rounded = score(**common, scoring_precision="bf16", out=tmp_path / "b")
    both = np.array([plain["aign"], rounded["aign"]])
    assert rounded["aign"].dtype == np.float32 and not np.array_equal(*both)
    assert np.corrcoef(both.argsort(1).argsort(1))[0, 1] > 0.999 and np.allclose(*both, rtol=0.1, atol=1e-3)
    monkeypatch.setattr("easycoreset.scoring.passes.BF16_CORRELATION", 1.0)
    ran = cli(
        "score",
        "--data",
        "digits",
        "--epochs",
        2,
        "--hardness",
        "aign,loss",
        "--scoring-precision",
        "bf16",
        "--out",
        tmp_path / "c",
    )
    assert ran.code == 0 and named(ran.err, "epoch 2 ", "fp32", "bf16", "not above 1")
    np.testing.assert_array_equal(Scores.read(tmp_path / "c" / "scores.parquet")["aign"], plain["aign"])
    ran = cli(
        "score",
        "--data",
        "digits",
        "--epochs",
        1,
        "--mode",
        "online",
        "--scoring-precision",
        "bf16",
        "--out",
        tmp_path / "d",
    )
    assert ran.code == 2 and named(ran.err, "scoring_precision ", "online")
    ran = cli(
        "score",
        "--data",
        "digits",
        "--epochs",
        1,
        "--hardness",
        "aign,curvature",
        "--scoring-precision",
        "bf16",
        "--out",
        tmp_path / "e",
    )
    assert ran.code == 0 and named(ran.err, "fp32", "measures")
    monkeypatch.undo()
    layer = next(name for name, kind in load_model(tmp_path / "a").named_modules() if isinstance(kind, torch.nn.Linear))
    explicit = score(
        **(common | {"hardness": ("aign", "grand")}), feature_layer=layer, scoring_precision="bf16", out=tmp_path / "f"
    )
    np.testing.assert_allclose(explicit["aign"], rounded["aign"], rtol=0.1, atol=1e-3)
    assert np.isfinite(explicit["grand"]).all()


@pytest.mark.parametrize("options", [{"mode": "online", "precision": "bf16"}, {"scoring_precision": "bf16"}])
def test_margins_have_float32s_values_where_the_network_is_in_bf16(options, tmp_path):
    scores = score(data="digits", epochs=1, hardness=("aum",), out=tmp_path, **options)
    (margins,) = (scores[name] for name in scores.columns)
    assert len(np.unique(margins)) > 1400  # of 1,438; 657 where the logits were bf16


def test_the_callers_process_stays_as_it_was(tmp_path):
    torch.set_num_threads(2)
    try:
        drawn = []
        for seed in (5, 6):
            torch.manual_seed(seed)
            expected = torch.rand(2)
            torch.manual_seed(seed)
            score(data="digits", model="digits-cnn", epochs=1, out=tmp_path / str(seed))
            drawn.append(torch.equal(torch.rand(2), expected))
        assert drawn == [True, True] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
