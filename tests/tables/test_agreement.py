"""Scores side by side: agreement, merging, and scoring after the fact."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr

from easycoreset import Scores, UsageError, load_model, score
from easycoreset.scoring import compare_early
from easycoreset.scoring.checkpoints import find_checkpoints
from easycoreset.tables.agreement import compare_columns
from easycoreset.tables.merging import standardise
from support.messages import named


def table(columns, labels=(0, 0, 1, 1), ids=None, **provenance):
    n = len(labels)
    return Scores(
        sample_ids=ids or [f"s{i}" for i in range(n)],
        labels=np.array(labels),
        class_names=["a", "b"],
        n_obs=np.full(n, 2, np.int32),
        columns={k: np.array(v, np.float32) for k, v in columns.items()},
        provenance={"split": "train", **provenance},
    )


def test_agreement_equals_its_definitions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = rng.integers(0, 20, 200).astype(float)
    y = rng.integers(0, 3, 200)
    b[:5] = np.nan
    found = compare_columns("x", "y", a, b, y, ["k", "l", "m"])
    assert found.samples == 195 and found.spearman == pytest.approx(spearmanr(a[5:], b[5:]).statistic)
    for k, name in enumerate("klm"):
        rows = np.flatnonzero((y == k) & (np.arange(200) >= 5))
        assert found.per_class[name] == pytest.approx(spearmanr(a[rows], b[rows]).statistic)
    c = -a
    assert compare_columns("x", "x", a, a, y).overlap == {0.1: 1, 0.3: 1, 0.5: 1} and compare_columns(
        "x", "x", a, c, y
    ).overlap == {
        0.1: 0,
        0.3: 0,
        0.5: 0,
    }
    easiest = [set(np.argsort(v)[:60]) for v in (a, a + rng.normal(size=200))]
    mixed = compare_columns("x", "x", a, a + 0, y)
    assert mixed.overlap[0.3] == 1 and len(easiest[0]) == 60
    assert np.isnan(compare_columns("x", "x", a, np.zeros(200), y).spearman)
    json.dumps(compare_columns("x", "x", a, np.zeros(200), y).record(), allow_nan=False)


def test_tables_are_compared_column_by_column():
    ours = table({"aign": [1, 2, 3, 4], "loss": [1, 2, 3, 4]})
    theirs = table({"aign_online": [4, 3, 2, 1], "el2n": [0, 0, 0, 0]})
    (found,) = ours.compare(theirs)
    assert (found.column, found.other, found.spearman) == ("aign", "aign_online", -1)
    with pytest.raises(UsageError, match=r"^compare\b.*\b0 sample ids\b.*\b1 labels\b"):
        ours.compare(table({"aign": [1, 2, 3, 4]}, labels=(0, 1, 1, 1)))
    with pytest.raises(UsageError, match="'test'.*'train'|'train'.*'test'"):
        ours.compare(table({"aign": [1, 2, 3, 4]}, split="test"))


def test_merging_seeds():
    nan = np.nan
    first = table(
        {
            "aign": [1, nan, 3, nan],
            "forgetting": [1, 4, 0, nan],
            "vog_raw": [1, 3, 5, 9],
            "vog": [9, 9, 9, 9],
            "loss": [0, 0, 0, 0],
        },
        counts=["forgetting"],
    )
    second = table({"aign": [3, 2, 3, nan], "forgetting": [2, 4, 1, nan], "vog_raw": [3, 5, 5, 1], "vog": [0, 0, 0, 0]})
    merged = Scores.merge([first, second])
    np.testing.assert_array_equal(merged["aign"], [2, 2, 3, nan])
    np.testing.assert_array_equal(merged["forgetting"], [3, 8, 1, nan])
    np.testing.assert_array_equal(merged["vog_raw"], [2, 4, 5, 5])
    np.testing.assert_array_equal(merged["vog"], standardise(merged["vog_raw"], merged.labels))
    assert merged["vog"].tolist() == [-1, 1, 0, 0]
    assert merged.n_obs.tolist() == [4] * 4 and "loss" not in merged.columns
    assert len(merged.provenance["merged"]) == 2


def test_merging_shards(tmp_path):
    first = table({"aign": [1, 2, 3, 4]}, ids=list("abcd"), fingerprint="1")
    second = table({"aign": [5, 6]}, labels=(1, 0), ids=list("ef"), fingerprint="2")
    merged = Scores.merge([first, second])
    assert merged["aign"].tolist() == [1, 2, 3, 4, 5, 6] and list(merged.sample_ids) == list("abcdef")
    assert merged.labels.tolist() == [0, 0, 1, 1, 1, 0]
    merged.write(tmp_path / "merged.parquet")
    assert Scores.read(tmp_path / "merged.parquet")["aign"].tolist() == merged["aign"].tolist()
    with pytest.raises(UsageError, match=r"\btable 1\b.*\b1 samples\b.*'d'"):
        Scores.merge([first, table({"aign": [1, 2]}, labels=(0, 1), ids=list("dg"))])
    with pytest.raises(UsageError, match=r"^merge\b"):
        Scores.merge([])
    with pytest.raises(UsageError, match=r"^merge\b.*\btable 1\b.*\b0 sample ids\b.*\b1 labels\b"):
        Scores.merge([table({"aign": [1, 2, 3, 4]}), table({"aign": [1, 2, 3, 4]}, labels=(0, 1, 1, 1))])


def test_columns_of_other_lengths_are_refused():
    fixed = {"sample_ids": ["a", "b"], "labels": np.zeros(2, int), "class_names": ["x"], "n_obs": np.ones(2, int)}
    for wrong in ({"sample_ids": ["a"]}, {"n_obs": np.ones(3, int)}, {"columns": {"aign": np.zeros(3)}}):
        with pytest.raises(UsageError, match=f"{next(iter(wrong.get('columns', wrong)))} .*\\b2\\b.*\\blabels\\b"):
            Scores(**{**fixed, "columns": {}, "provenance": {}, **wrong})


def test_warnings_are_told_in_python_too():
    script = "import numpy, easycoreset; easycoreset.Scores(sample_ids=['a'], labels=numpy.zeros(1, int), class_names=['x'], "
    script += "n_obs=numpy.ones(1, int), columns={'aign': numpy.array([numpy.inf])}, provenance={})"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert named(told.stderr, "warning: ", "1 infinite", "aign") and not told.returncode


def test_real_seeds_and_early_epochs(tmp_path):
    runs = [score(data="digits", epochs=4, seed=seed, out=tmp_path / str(seed)) for seed in (0, 1)]
    agreement = {one.column: one for one in runs[0].compare(runs[1])}
    assert (
        len(agreement) == 10
        and 0.5 < agreement["aign"].spearman < 1
        and set(agreement["aign"].per_class) == set("0123456789")
    )
    merged = Scores.merge(runs)
    np.testing.assert_allclose(merged["aign"], (runs[0]["aign"] + runs[1]["aign"]) / 2, rtol=1e-6)
    thrice = Scores.merge([merged, runs[1]])  # what counts events is known of a merged table too
    np.testing.assert_array_equal(thrice["forgetting"], runs[0]["forgetting"] + 2 * runs[1]["forgetting"])
    assert merged.provenance["fingerprint"] == runs[0].provenance["fingerprint"]
    rows = compare_early(tmp_path / "0", first=[1, 2], every=[2])
    assert [(r["first"], r["every"], r["epochs"]) for r in rows] == [(1, None, 1), (2, None, 2), (None, 2, 2)]
    whole = runs[0]["aign"]
    one = score(data="digits", epochs=4, first=1, out=tmp_path / "first")["aign"]
    assert rows[0]["spearman"] == pytest.approx(spearmanr(one, whole).statistic, abs=1e-4)
    assert rows[0]["spearman"] < rows[1]["spearman"] < 1 and 0 < rows[0]["overlap_10"] <= 1
    with pytest.raises(UsageError, match="trajectory/"):
        compare_early(tmp_path)


def test_online_scoring_tells_its_agreement(tmp_path, cli):
    flags = ["score", "--data", "digits", "--epochs", 2, "--mode", "online"]
    ran = cli(*flags, "--json", "--out", tmp_path / "a")
    found = ran.json["summary"]["agreement"]
    assert named(ran.err, "aign_online", "aign", "1438 samples", "Spearman 0.")
    assert found["aign_online"]["spearman"] > 0.5 and {"loss_online", "aum_online", "grand_online"} <= set(found)
    assert len(list((tmp_path / "a" / "agreement").glob("*.parquet"))) == 2
    exact = pq.read_table(tmp_path / "a" / "agreement" / "0001.parquet")["aign"].to_numpy()
    assert np.isfinite(exact).all() and len(exact) == 1438
    ran = cli(*flags, "--agreement", 0, "--json", "--out", tmp_path / "b")
    assert "agreement" not in ran.json["summary"] and "Spearman" not in ran.err
    same = [Scores.read(tmp_path / name / "scores.parquet")["aign_online"] for name in "ab"]
    np.testing.assert_array_equal(*same)  # looking changes nothing


@pytest.mark.parametrize("objective", ["pgd-at:eps=0.1:steps=1", "fgsm-rs:eps=0.1"])
def test_online_scoring_of_an_objective_that_never_sees_the_clean_batch(objective, tmp_path):
    with pytest.raises(UsageError, match=r"online.*\b(pgd-at|fgsm-rs)\b"):
        score(data="digits", epochs=1, mode="online", objective=objective, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_after_the_fact(tmp_path, cli):
    """Checkpoints of our own run, renamed as others name them, give its scores."""
    own = score(data="digits", epochs=11, hardness=["cheap", "vog"], out=tmp_path / "own")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    mean, std = (float(getattr(load_model(tmp_path / "own")[0], name).squeeze()) for name in ("mean", "std"))
    from safetensors.torch import load_file

    for epoch in range(1, 12):
        state = load_file(tmp_path / "own" / "checkpoints" / f"{epoch:04d}" / "model.safetensors")
        bare = {f"module._orig_mod.{k[2:]}": v for k, v in state.items() if k.startswith("1.")}
        torch.save({"state_dict": bare, "epoch": epoch}, theirs / f"epoch_{epoch}.pt")
    ran = cli(
        "score",
        "--data",
        "digits",
        "--model",
        "digits-cnn",
        "--checkpoints",
        theirs,
        "--hardness",
        "cheap,vog",
        "--input-mean",
        mean,
        "--input-std",
        std,
        "--json",
        "--out",
        tmp_path / "scored",
    )
    assert ran.code == 0, ran.err
    assert (
        named(ran.err, "11 checkpoints", "epoch_1.pt, epoch_2.pt") and "epoch_9.pt, epoch_10.pt, epoch_11.pt" in ran.err
    )
    found = Scores.read(tmp_path / "scored" / "scores.parquet")
    assert list(found.columns) == list(own.columns) and (found.n_obs == 11).all()
    for name, values in own.columns.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
    again = cli(
        "score",
        "--data",
        "digits",
        "--model",
        "digits-cnn",
        "--checkpoints",
        tmp_path / "own" / "checkpoints",
        "--out",
        tmp_path / "folders",
    )
    assert again.code == 0 and named(again.out, "digits-cnn", "1438 samples of digits", "11 checkpoints"), again.err
    np.testing.assert_array_equal(Scores.read(tmp_path / "folders" / "scores.parquet")["aign"], own["aign"])


def test_wrong_checkpoints(tmp_path):
    options = {"data": "digits", "model": "digits-cnn", "out": tmp_path / "run"}
    (tmp_path / "empty").mkdir()
    for given, match in (
        ({"checkpoints": tmp_path / "none"}, r"^checkpoints\b.*none'"),
        ({"checkpoints": tmp_path / "empty"}, r"empty\b.*\bweights\b"),
        (
            {"checkpoints": tmp_path / "empty", "epochs": 1},
            "epochs.*checkpoints.*both",
        ),
        ({}, "epochs.*checkpoints.*neither"),
        ({"checkpoints": tmp_path / "empty", "lr": 0.2}, r"^lr\b.*\bcheckpoints\b.*\b0\.2$"),
        ({"checkpoints": tmp_path / "empty", "mode": "online"}, r"^mode\b.*\bcheckpoints\b.*'online'"),
        ({"epochs": 1, "input_mean": 0.5, "input_std": 0.5}, r"^input_mean\b.*\bcheckpoints\b"),
    ):
        with pytest.raises(UsageError, match=match):
            score(**options, **given)
    folder = tmp_path / "other"
    folder.mkdir()
    save_file({"weight": torch.ones(2)}, folder / "epoch_1.safetensors")
    with pytest.raises(UsageError, match=r"epoch_1\.safetensors: .*\bdigits-cnn; \d+ keys\b"):
        score(**options, checkpoints=folder)
    for name in ("epoch_10.pt", "epoch_2.pt", "notes.txt"):
        (folder / name).write_bytes(b"x")
    assert [file.name for file in find_checkpoints(folder)] == ["epoch_1.safetensors", "epoch_2.pt", "epoch_10.pt"]
    assert not (tmp_path / "run").exists()


def test_tables_that_are_neither_seeds_nor_shards_are_refused():
    first = table({"aign": [1, 2, 3, 4]})
    with pytest.raises(UsageError, match=r"^merge\b.*\bsplit\b"):
        Scores.merge([first, table({"aign": [1, 2]}, labels=(0, 1), ids=["x", "y"], split="test")])
    with pytest.raises(UsageError, match=r"^merge\b.*\bhardness\b"):
        Scores.merge([first, table({"loss": [1, 2, 3, 4]})])


def test_agreement_is_of_what_was_trained_on(tmp_path):
    from easycoreset import select

    score(data="digits", epochs=1, hardness="aign", out=tmp_path / "scores")
    select(scores=tmp_path / "scores" / "scores.parquet", fraction=0.05, method="random", out=tmp_path / "c.parquet")
    options = {"data": "digits", "epochs": 2, "mode": "online", "coreset": tmp_path / "c.parquet"}
    score(**options, agreement=50, out=tmp_path / "run")
    found = json.loads((tmp_path / "run" / "run.json").read_text())["summary"]["agreement"]
    assert found["aign_online"]["samples"] == 50
    with pytest.raises(UsageError, match=r"agreement=50 \(now 60\)"):
        score(**options, agreement=60, out=tmp_path / "run")
    with pytest.raises(UsageError, match=r"^agreement\b.*\bexact\b"):
        score(data="digits", epochs=1, agreement=3, out=tmp_path / "x")


def test_other_peoples_scores_are_turned_so_that_higher_is_harder(tmp_path, caplog):
    """As the C-scores' file: labels and scores in the order of the training set, 1 for the most regular sample."""
    ours = table({"aign": [0.1, 0.4, 0.2, 0.3]})
    consistent = np.array([0.9, 0.2, 0.6, 0.5])
    np.savez(tmp_path / "c.npz", labels=ours.labels, scores=consistent)
    with caplog.at_level("INFO", "easycoreset"):
        (found,) = ours.compare(tmp_path / "c.npz")
    assert (found.column, found.other, found.spearman) == ("aign", "-scores", pytest.approx(1))
    assert "falls" in caplog.text and "its labels are the table's" in caplog.text
    np.savez(tmp_path / "hard.npz", difficulty=1 - consistent)
    assert ours.compare(str(tmp_path / "hard.npz"))[0].other == "difficulty"


def test_other_peoples_scores_of_another_order_are_refused(tmp_path):
    ours = table({"aign": [0.1, 0.4, 0.2, 0.3]})
    np.savez(tmp_path / "c.npz", labels=ours.labels[::-1], scores=np.zeros(4))
    with pytest.raises(UsageError, match=r"labels of 4 of 4 .*order"):
        ours.compare(tmp_path / "c.npz")
    np.savez(tmp_path / "short.npz", scores=np.zeros(3))
    with pytest.raises(UsageError, match="4 numbers"):
        ours.compare(tmp_path / "short.npz")
    with pytest.raises(UsageError, match="no such file"):
        ours.compare(tmp_path / "none.npz")
