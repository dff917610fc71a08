"""The audit: planted label noise, duplicates and hard samples are found; a person's ticks become a list."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from easycoreset import Coreset, Scores, UsageError, audit, predict, score, select, train
from easycoreset.auditing.noise import measure_noise
from easycoreset.auditing.suspects import rank_hardest_first
from support.messages import named


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, digits):
    """Digits with 60 labels flipped, 5 exact duplicates of which 2 have another label, and one of the test split."""
    folder = tmp_path_factory.mktemp("noisy")
    train_part, test_part = (digits.splits[name] for name in ("train", "test"))
    x = train_part.images.pixels[..., 0].numpy().copy()
    y = train_part.labels.copy()
    x_test = test_part.images.pixels[..., 0].numpy()
    rng = np.random.default_rng(0)
    for place, (copy, of) in enumerate([(900, 10), (901, 11), (902, 12), (903, 13), (904, 14)]):
        x[copy] = x[of]
        y[copy] = (y[of] + (place < 2)) % 10
    x[905] = x_test[7]
    flipped = rng.permutation(900)[:60]
    y[flipped] = (y[flipped] + rng.integers(1, 10, 60)) % 10
    np.savez(folder / "noisy.npz", x=x, y=y, x_test=x_test, y_test=test_part.labels)
    (folder / "flipped.txt").write_text("\n".join(map(str, flipped)))
    score(data=str(folder / "noisy.npz"), model="digits-cnn", epochs=6, out=folder / "scores")
    return folder, flipped


def run(folder, out, **more):
    return audit(data=str(folder / "noisy.npz"), scores=folder / "scores", out=out, **more).table


def test_what_was_planted_is_found(noisy, tmp_path):
    folder, flipped = noisy
    table = run(folder, tmp_path / "audit", wrong=folder / "flipped.txt")
    summary = json.loads((tmp_path / "audit" / "run.json").read_text())["summary"]
    noise = summary["noise"]["columns"]
    assert summary["noise"]["wrong"] == 60 and {"aign", "loss", "aum", "el2n"} <= set(noise)
    order = np.argsort(-Scores.read(folder / "scores" / "scores.parquet")["loss"], kind="stable")[:60]
    hit = np.isin(order, flipped).mean()
    assert noise["loss"][1] == {"k": 60, "precision": pytest.approx(hit), "recall": pytest.approx(hit)}
    assert noise["loss"][1]["precision"] > 0.8 and noise["aum"][1]["precision"] > 0.8
    suspects = np.flatnonzero(table["likely_mislabelled"].to_numpy(zero_copy_only=False))
    assert np.isin(flipped, suspects).mean() > 0.85 and summary["likely_mislabelled"] == len(suspects) < 150
    loss = Scores.read(folder / "scores" / "scores.parquet")["loss"]
    assert suspects.tolist() == np.flatnonzero(loss > np.log(10)).tolist()
    assert (table["pred"].to_numpy()[flipped] != table["label"].to_numpy()[flipped]).mean() > 0.8
    by_margin = run(folder, tmp_path / "margin", suspect_by="aum")
    assert (
        np.isin(flipped, np.flatnonzero(by_margin["likely_mislabelled"].to_numpy(zero_copy_only=False))).mean() > 0.85
    )
    twins = table["duplicate_of"].to_pylist()
    own = {r: t for r, t in enumerate(twins) if t is not None}
    assert own == {900: 10, 901: 11, 902: 12, 903: 13, 904: 14} and summary["duplicates"] == 5
    relabelled = sum(table["label"][r].as_py() != table["label"][t].as_py() for r, t in own.items())
    assert summary["duplicates_with_another_label"] == relabelled >= 2
    assert (
        np.flatnonzero(table["in_test"].to_numpy(zero_copy_only=False)).tolist() == [905]
        and summary["also_in_test"] == 1
    )


def test_the_table(noisy, tmp_path):
    folder, _ = noisy
    table = run(folder, tmp_path / "audit")
    scores = Scores.read(folder / "scores" / "scores.parquet")
    assert table.column_names == [
        "index",
        "sample_id",
        "label",
        "label_name",
        "pred",
        "pred_name",
        "probability",
        "self_confidence",
        "aign",
        "rank",
        "rank_in_class",
        "loss",
        "suspicion",
        "likely_mislabelled",
        "duplicate_of",
        "in_test",
    ]
    order = np.argsort(table["rank"].to_numpy())
    assert (np.diff(scores["aign"][order]) <= 0).all()
    for k in range(10):
        own = scores.labels == k
        assert sorted(table["rank_in_class"].to_numpy()[own]) == list(range(own.sum()))
    wrong = table["pred"].to_numpy() != scores.labels
    assert (table["self_confidence"].to_numpy()[~wrong] == table["probability"].to_numpy()[~wrong]).all()
    assert pq.read_table(tmp_path / "audit" / "audit.parquet").equals(
        run(folder, tmp_path / "audit")
    )  # the second is read


def test_places_from_the_hardest_on():
    assert rank_hardest_first(np.array([1.0, np.nan, 3.0, 3.0])).tolist() == [2, 3, 0, 1]
    assert rank_hardest_first(np.array([1.0, 2.0, 3.0, 0.0]), np.array([0, 1, 0, 1])).tolist() == [1, 0, 0, 1]


def test_precision_and_recall_of_known_rankings():
    scores = Scores(
        sample_ids=list("abcdef"),
        labels=np.zeros(6, np.int64),
        class_names=["k"],
        n_obs=np.ones(6, np.int32),
        columns={
            "good": np.array([5, 4, 0, 0, 0, np.nan], np.float32),
            "bad": np.array([0, 0, 5, 4, 3, 2], np.float32),
        },
    )
    found = measure_noise(scores, np.array([1, 1, 0, 0, 0, 0], bool), None)["columns"]
    assert [(c["k"], c["precision"], c["recall"]) for c in found["good"]] == [(1, 1, 0.5), (2, 1, 1), (4, 0.5, 1)]
    assert [(c["k"], c["precision"], c["recall"]) for c in found["bad"]] == [(1, 0, 0), (2, 0, 0), (4, 0, 0)]


def test_cleanlab_beside_it(noisy, tmp_path):
    rank = pytest.importorskip("cleanlab.rank")
    folder, flipped = noisy
    table = run(folder, tmp_path / "audit", wrong=folder / "flipped.txt")
    summary = json.loads((tmp_path / "audit" / "run.json").read_text())["summary"]
    assert (
        summary["noise"]["columns"]["cleanlab"][1]["precision"] > 0.5 and rank is not None and len(table) > len(flipped)
    )


def test_wrong_use(noisy, tmp_path, digits):
    folder, _ = noisy
    for options, match in (
        ({"data": "digits"}, r"^scores\b.*\b1438 sample ids\b"),
        ({"by": "agin"}, r"^by\b.*'agin'.*'aign'"),
        ({"suspect_by": "vog"}, r"^suspect_by\b.*'vog'"),
        ({"scores": tmp_path / "none"}, r"^scores\b.*none'"),
        ({"wrong": tmp_path / "none.txt"}, r"none\.txt"),
    ):
        with pytest.raises(UsageError, match=match):
            audit(**{"data": str(folder / "noisy.npz"), "scores": folder / "scores", "out": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_scores_without_a_model_are_audited_without_predictions(noisy, tmp_path):
    folder, _ = noisy
    Scores.read(folder / "scores" / "scores.parquet").write(tmp_path / "alone.parquet")
    table = audit(data=str(folder / "noisy.npz"), scores=tmp_path / "alone.parquet", out=tmp_path / "audit").table
    assert table["pred"].null_count == len(table) and table["duplicate_of"].null_count == len(table) - 5


def test_what_was_ticked_is_left_out(noisy, tmp_path):
    folder, flipped = noisy
    coreset = select(
        scores=folder / "scores" / "scores.parquet",
        fraction=0.9,
        method="random",
        exclude=folder / "flipped.txt",
        out=tmp_path / "clean.parquet",
    )
    assert not coreset.keep[flipped].any() and len(coreset) == round(0.9 * (1438 - 60))
    assert Coreset.read(tmp_path / "clean.parquet").provenance["excluded"] == 60
    train(
        data=str(folder / "noisy.npz"),
        model="digits-cnn",
        coreset=tmp_path / "clean.parquet",
        updates=2,
        out=tmp_path / "m",
    )
    with pytest.raises(UsageError, match="^exclude"):
        select(
            scores=folder / "scores" / "scores.parquet",
            fraction=0.9,
            method=f"file:{folder / 'flipped.txt'}",
            exclude=folder / "flipped.txt",
            out=tmp_path / "x.parquet",
        )


def test_the_command(noisy, tmp_path, cli):
    folder, _ = noisy
    ran = cli(
        "audit",
        "--data",
        folder / "noisy.npz",
        "--scores",
        folder / "scores",
        "--wrong",
        folder / "flipped.txt",
        "--out",
        tmp_path / "audit",
    )
    assert ran.code == 0 and "mislabelled" in ran.out and named(ran.out, "aum", " 60 ", "0."), ran.err
    page = (tmp_path / "audit" / "report.html").read_text()
    summary = json.loads((tmp_path / "audit" / "run.json").read_text())["summary"]
    suspects = summary["likely_mislabelled"]
    pairs = summary["duplicates_with_another_label"]
    assert page.count('type="checkbox"') == min(suspects, 60) + 2 * pairs + 10 * 8 and "data:image/png" in page
    assert "different labels" in page and re.search(r"<td>[^<]*\btest split</td>", page)
    assert re.search(r"\b\d+ samples of test\.", page)


def test_images_without_labels_are_predicted(tmp_path, cli, digits, scored):
    from PIL import Image

    split = digits.splits["test"]
    (tmp_path / "inbox" / "deep").mkdir(parents=True)
    for row in range(20):
        Image.fromarray(split.images.pixels[row, ..., 0].numpy()).save(
            tmp_path / "inbox" / ("deep" if row % 2 else ".") / f"{row:02d} ü'\".png"
        )
    (tmp_path / "inbox" / "broken.png").write_bytes(b"no picture")
    ran = cli("predict", "--data", tmp_path / "inbox", "--weights", scored, "--out", tmp_path / "out")
    assert ran.code == 0 and named(ran.err, "1 of 21", "broken.png"), ran.err
    table = pq.read_table(tmp_path / "out" / "labels.parquet")
    assert table.column_names == ["sample_id", "pred", "label_name", "probability"] and table.num_rows == 21
    found = {line["sample_id"]: line for line in table.to_pylist()}
    assert found["broken.png"]["pred"] is None
    right = [
        found[("deep/" if row % 2 else "") + f"{row:02d} ü'\".png"]["pred"] == split.labels[row] for row in range(20)
    ]
    assert np.mean(right) >= 0.85
    np.savez(tmp_path / "x.npz", x=split.images.pixels[:20, ..., 0].numpy())
    again = predict(data=str(tmp_path / "x.npz"), weights=scored, out=tmp_path / "arrays")
    by_file = [found[("deep/" if row % 2 else "") + f"{row:02d} ü'\".png"]["probability"] for row in range(20)]
    np.testing.assert_allclose(again["probability"].to_numpy(), by_file, atol=0.02)
    for data, match in ((tmp_path / "none", r"^data\b.*none'"), (tmp_path / "out", r"^data\b.*/out: .*\bimages\b")):
        with pytest.raises(UsageError, match=match):
            predict(data=str(data), weights=scored, out=tmp_path / "x")
    np.savez(tmp_path / "large.npz", x=np.zeros((2, 9, 9), np.uint8))
    with pytest.raises(UsageError, match=r"\bx\b.*\(1, 8, 8\).*\(1, 9, 9\)"):
        predict(data=str(tmp_path / "large.npz"), weights=scored, out=tmp_path / "x")


def test_a_column_without_a_threshold_names_nobody(noisy, tmp_path, cli):
    folder, _ = noisy
    scores = Scores.read(folder / "scores" / "scores.parquet")
    Scores(**{**vars(scores), "columns": {"aign": scores["aign"]}}).write(tmp_path / "alone.parquet")
    ran = cli(
        "audit", "--data", folder / "noisy.npz", "--scores", tmp_path / "alone.parquet", "--out", tmp_path / "audit"
    )
    assert ran.code == 0 and named(ran.out, "1438", "mislabelled"), ran.err
    page = (tmp_path / "audit" / "report.html").read_text()
    assert named(page, "aign", "threshold") and "guessing" not in page


def test_an_audit_of_other_scores_is_made_anew(noisy, tmp_path):
    folder, _ = noisy
    scores = Scores.read(folder / "scores" / "scores.parquet")
    scores.write(tmp_path / "s.parquet")
    options = {"data": str(folder / "noisy.npz"), "scores": tmp_path / "s.parquet", "out": tmp_path / "audit"}
    audit(**options)
    Scores(**{**vars(scores), "columns": {**scores.columns, "loss": scores["loss"] + 1}}).write(tmp_path / "s.parquet")
    with pytest.raises(UsageError, match=r"audit.*\bscores="):
        audit(**options)


def test_ties_are_not_broken_by_the_order_of_rows():
    """Rows sorted by class, half of them wrong, and a hardness that says nothing."""
    scores = Scores(
        sample_ids=[str(i) for i in range(400)],
        labels=np.arange(400) // 200,
        class_names=["a", "b"],
        n_obs=np.ones(400, np.int32),
        columns={"forgetting": np.zeros(400, np.float32)},
    )
    for wrong in (np.arange(400) < 200, np.arange(400) >= 200):
        (cut, *_) = measure_noise(scores, wrong, None)["columns"]["forgetting"]
        assert 0.4 < cut["precision"] < 0.6


def test_images_that_arrays_cannot_be(scored, tmp_path, digits):
    x = digits.splits["test"].images.pixels[:5, ..., 0].numpy()
    for name, array in (("wide", x.astype(np.float32)), ("whole", x.astype(np.int64)), ("text", np.array(["a", "b"]))):
        np.savez(tmp_path / f"{name}.npz", x=array)
        with pytest.raises(UsageError, match=r"\bx\b"):
            predict(data=str(tmp_path / f"{name}.npz"), weights=scored, out=tmp_path / "x")
    np.savez(tmp_path / "fine.npz", x=x)
    predict(data=str(tmp_path / "fine.npz"), weights=scored, out=tmp_path / "x")
    np.savez(tmp_path / "fine.npz", x=x[:3])
    with pytest.raises(UsageError, match=r"run\.json.*\bimages="):
        predict(data=str(tmp_path / "fine.npz"), weights=scored, out=tmp_path / "x")
