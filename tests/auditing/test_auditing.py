"""The audit: planted label noise, duplicates and hard samples are found; a person's ticks become a list."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from easycoreset import Coreset, Scores, UsageError, audit, open_source, predict, report, score, select, train
from easycoreset.auditing.noise import measure_noise
from easycoreset.auditing.ranks import rank_hardest_first
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


QUICK = {"judge": "epochs"}  # no training


def run(folder, out, **more):
    return audit(data=str(folder / "noisy.npz"), scores=folder / "scores", out=out, **{**QUICK, **more}).table


def rows(table, column):
    return np.flatnonzero(table[column].to_numpy(zero_copy_only=False))


def test_what_was_planted_is_found(noisy, tmp_path):
    folder, flipped = noisy
    data = {"data": str(folder / "noisy.npz")}
    found = audit(**data, wrong=folder / "flipped.txt", epochs=8, out=tmp_path / "audit")
    table, summary = found.table, found.summary
    noise = summary["noise"]["columns"]
    assert summary["noise"]["wrong"] == 60 and {"judge_loss", "suspicion"} <= set(noise)
    assert noise["suspicion"][1]["precision"] > 0.85
    suspects = rows(table, "likely_mislabelled")
    planted = [*flipped, 900, 901]
    assert np.isin(suspects, planted).mean() > 0.8 and np.isin(flipped, suspects).mean() > 0.8
    assert (table["pred"].to_numpy()[suspects] != table["label"].to_numpy()[suspects]).all()
    precision = np.isin(suspects, planted).mean()
    assert abs(summary["judge"]["expected_precision"] - precision) < 0.15
    assert summary["judge"]["kind"] == "folds" and summary["judge"]["accuracy"] > 0.85
    assert (
        set(summary["judge"]["accuracy_per_class"]) == set(map(str, range(10))) and not summary["judge"]["weak_classes"]
    )
    issues = found.issues.to_pylist()
    assert summary["issues"]["label"]["train"] == len(suspects) == summary["likely_mislabelled"]
    own = {line["index"]: line["other_index"] for line in issues if line["kind"] == "duplicate"}
    assert own == {900: 10, 901: 11, 902: 12, 903: 13, 904: 14}
    label = table["label"].to_pylist()
    assert summary["duplicates_with_another_label"] == sum(label[r] != label[t] for r, t in own.items()) >= 2
    (leak,) = [line for line in issues if line["kind"] == "leak"]
    assert (leak["part"], leak["index"], leak["other_part"], leak["other_index"]) == ("train", 905, "test", 7)
    assert rows(table, "in_test").tolist() == [905]
    assert [table["duplicate_of"][r].as_py() for r in own] == list(own.values())


def test_the_judge_of_scored_epochs(noisy, tmp_path):
    """They have seen the wrong labels, and still find most of them here, where six epochs do not memorise."""
    folder, flipped = noisy
    table = run(folder, tmp_path / "audit", wrong=folder / "flipped.txt")
    summary = json.loads((tmp_path / "audit" / "run.json").read_text())["summary"]
    assert summary["judge"]["kind"] == "epochs" and summary["judge"]["models"] == 6 and summary["by"] == "aign"
    assert {"aign", "loss", "aum", "el2n", "suspicion"} <= set(summary["noise"]["columns"])
    order = np.argsort(-Scores.read(folder / "scores" / "scores.parquet")["loss"], kind="stable")[:60]
    hit = np.isin(order, flipped).mean()
    assert summary["noise"]["columns"]["loss"][1] == {
        "k": 60,
        "precision": pytest.approx(hit),
        "recall": pytest.approx(hit),
    }
    suspects = rows(table, "likely_mislabelled")
    assert np.isin(suspects, [*flipped, 900, 901]).mean() > 0.6 and np.isin(flipped, suspects).mean() > 0.5


@pytest.mark.slow
def test_the_judge_by_features_from_elsewhere(noisy, tmp_path, digits):
    """Pixels are features enough for digits; the test part is not judged, since it has none."""
    folder, flipped = noisy
    with np.load(folder / "noisy.npz") as data:
        np.save(tmp_path / "pixels.npy", data["x"].reshape(len(data["x"]), -1).astype(np.float32))
    with pytest.warns(UserWarning, match="fingerprint"):
        found = audit(data=str(folder / "noisy.npz"), features=tmp_path / "pixels.npy", out=tmp_path / "audit")
    suspects = rows(found.table, "likely_mislabelled")
    assert np.isin(suspects, [*flipped, 900, 901]).mean() > 0.7 and np.isin(flipped, suspects).mean() > 0.6
    assert found.summary["judge"]["kind"] == "features" and "test" not in found.summary["issues"]["label"]


def test_a_judge_that_knows_nothing_calls_nothing(noisy, tmp_path):
    folder, _ = noisy
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", rng.normal(size=(1438, 20)).astype(np.float32))
    with pytest.warns(UserWarning, match="fingerprint"):
        found = audit(data=str(folder / "noisy.npz"), features=tmp_path / "noise.npy", out=tmp_path / "audit")
    assert found.summary["likely_mislabelled"] == 0 and len(found.summary["judge"]["weak_classes"]) >= 8
    report(out=found)
    assert "too weak" in (tmp_path / "audit" / "report.html").read_text()
    assert "doubtful label" not in found.summary["issues"]


@pytest.mark.slow
def test_folds_that_are_judged_already_are_read(noisy, tmp_path, monkeypatch):
    """A stop between two folds: the finished one is not trained again, and the result is the undisturbed one."""
    from easycoreset.auditing import by_folds

    folder, _ = noisy
    options = {"data": str(folder / "noisy.npz"), "epochs": 1}
    whole = audit(**options, out=tmp_path / "whole")
    fits = []

    def stop(setup, model, **more):
        fits.append(1)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(setup, model, **more)

    fit = by_folds.fit
    monkeypatch.setattr(by_folds, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        audit(**options, out=tmp_path / "halves")
    again = audit(**options, out=tmp_path / "halves")
    assert len(fits) == 2 + 3 - 1 and again.table.equals(whole.table) and again.issues.equals(whole.issues)


def test_classes_of_two_pictures_are_audited(tmp_path, digits):
    """Fewer samples of every class than folds: nothing can be said of the labels, and the copies are found."""
    pixels = digits.splits["train"].images.pixels[:4, ..., 0].numpy()
    x = pixels[[0, 1, 2, 2]]
    np.savez(tmp_path / "few.npz", x=x, y=[0, 0, 1, 1], x_test=pixels[3:], y_test=[1])
    found = audit(data=str(tmp_path / "few.npz"), epochs=1, out=tmp_path / "audit")
    assert found.summary["issues"] == {"duplicate": {"train": 1}} and len(found) == 4
    report(out=found)


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
    columns = {
        "good": np.array([5, 4, 0, 0, 0, np.nan], np.float32),
        "bad": np.array([0, 0, 5, 4, 3, 2], np.float32),
    }
    wrong = np.array([1, 1, 0, 0, 0, 0], bool)
    found = measure_noise(columns, np.zeros(6, np.int64), wrong, np.full((6, 2), 0.5))["columns"]
    assert [(c["k"], c["precision"], c["recall"]) for c in found["good"]] == [(1, 1, 0.5), (2, 1, 1), (4, 0.5, 1)]
    assert [(c["k"], c["precision"], c["recall"]) for c in found["bad"]] == [(1, 0, 0), (2, 0, 0), (4, 0, 0)]


@pytest.mark.slow
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
        ({"judge": "folds", "features": tmp_path / "f.npy"}, r"^judge\b.*\bfeatures\b"),
        ({"judge": "epochs", "scores": None}, r"^judge\b.*\bscores\b.*'epochs'"),
        ({"judge": "epochs", "init": str(folder / "scores")}, r"^init\b.*\bfolds\b"),
        ({"judge": "epochs", "epochs": 3}, r"^epochs\b.*\bfolds\b"),
        ({"by": "aign", "scores": None}, r"^by\b.*\bscores\b"),
        ({"allow_subset": True, "scores": None}, r"^allow_subset\b.*\bscores\b"),
        ({"scores": tmp_path / "none"}, r"^scores\b.*none'"),
        ({"wrong": tmp_path / "none.txt"}, r"none\.txt"),
    ):
        with pytest.raises(UsageError, match=match):
            audit(**{"data": str(folder / "noisy.npz"), "scores": folder / "scores", "out": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_scores_without_a_model_rank_while_folds_judge(noisy, tmp_path):
    folder, _ = noisy
    Scores.read(folder / "scores" / "scores.parquet").write(tmp_path / "alone.parquet")
    options = {"data": str(folder / "noisy.npz"), "scores": tmp_path / "alone.parquet"}
    found = audit(**options, epochs=1, out=tmp_path / "audit")
    assert found.summary["judge"]["kind"] == "folds" and found.summary["by"] == "aign"
    with pytest.raises(UsageError, match=r"^judge\b.*\bmodels\b"):
        audit(**options, judge="epochs", out=tmp_path / "no")


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


def test_the_command(noisy, tmp_path, cli, monkeypatch):
    """The data set alone is enough; the folder of the results is named after it."""
    folder, _ = noisy
    monkeypatch.chdir(tmp_path)
    ran = cli("audit", folder / "noisy.npz", "--epochs", 4, "--wrong", folder / "flipped.txt")
    assert ran.code == 0 and "called wrong" in ran.out and named(ran.out, "suspicion", " 60 ", "0."), ran.err
    assert "runs/audit-noisy" in ran.err and named(ran.out, "audit-noisy/report.html")
    place = tmp_path / "runs" / "audit-noisy"
    page = (place / "report.html").read_text()
    review = json.loads(re.search(r'class="review-data">(.*?)</script>', page, re.S)[1])
    kinds = [issue[0] for issue in review["issues"]]
    found = json.loads((place / "run.json").read_text())["summary"]["issues"]
    assert {kind: kinds.count(kind) for kind in kinds} == {k: sum(n.values()) for k, n in found.items()}
    assert all(picture[4].startswith("data:image/") for picture in review["pictures"])
    assert review["classes"] == list(map(str, range(10)))


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


def test_an_audit_of_other_scores_is_made_anew(noisy, tmp_path):
    folder, _ = noisy
    scores = Scores.read(folder / "scores" / "scores.parquet")
    scores.write(tmp_path / "s.parquet")
    options = {
        "data": str(folder / "noisy.npz"),
        "scores": tmp_path / "s.parquet",
        "out": tmp_path / "audit",
        "epochs": 1,
    }
    audit(**options)
    Scores(**{**vars(scores), "columns": {**scores.columns, "loss": scores["loss"] + 1}}).write(tmp_path / "s.parquet")
    with pytest.raises(UsageError, match=r"audit.*\bscores="):
        audit(**options)


def test_ties_are_not_broken_by_the_order_of_rows():
    """Rows sorted by class, half of them wrong, and a hardness that says nothing."""
    columns = {"forgetting": np.zeros(400, np.float32)}
    for wrong in (np.arange(400) < 200, np.arange(400) >= 200):
        (cut, *_) = measure_noise(columns, np.arange(400) // 200, wrong, np.full((400, 2), 0.5))["columns"][
            "forgetting"
        ]
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
    with pytest.raises(UsageError, match=r"run\.json.*other images \(some were added"):
        predict(data=str(tmp_path / "fine.npz"), weights=scored, out=tmp_path / "x")


def test_test_pictures_that_the_initial_model_was_trained_on(tmp_path, digits):
    train_x, test_x = (digits.splits[name].images.pixels[..., 0].numpy() for name in ("train", "test"))
    train_y, test_y = (digits.splits[name].labels for name in ("train", "test"))
    seen = [3, 8, 40]
    before = (np.concatenate([train_x[:300], test_x[seen]]), np.concatenate([train_y[:300], test_y[seen]]))
    train(data=(before, (test_x[100:200], test_y[100:200])), model="digits-cnn", epochs=1, out=tmp_path / "model")
    data = ((train_x[400:700], train_y[400:700]), (test_x[:60], test_y[:60]))
    found = audit(data=data, init=tmp_path / "model", epochs=1, out=tmp_path / "audit")
    issues = [line for line in found.issues.to_pylist() if line["kind"] == "seen in training"]
    assert sorted((line["part"], line["index"], line["score"]) for line in issues) == [("test", n, 1.0) for n in seen]


def test_one_that_is_far_from_all_others_is_odd(tmp_path):
    """By features of a length of their own: three classes in three directions, two pictures in another one."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    features = (8 * np.eye(16)[labels] + rng.normal(size=(240, 16))).astype(np.float32)
    odd = [50, 121]
    features[odd] = 8 * np.eye(16)[9] + rng.normal(size=(2, 16))
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (240, 8, 8), np.uint8), y=labels)
    data = {"data": str(tmp_path / "a.npz")}
    ids = open_source(data["data"]).splits["train"].sample_ids  # a fifth is held out
    values = features[[int(name.split("/")[1]) for name in ids]]
    table = pa.table({"sample_id": list(ids), "features": list(values)})
    pq.write_table(table, tmp_path / "features.parquet")
    found = audit(**data, features=tmp_path / "features.parquet", out=tmp_path / "audit")
    named_odd = [line["sample_id"] for line in found.issues.to_pylist() if line["kind"] == "odd one out"]
    assert set(named_odd) == {name for name in ids if int(name.split("/")[1]) in odd}
