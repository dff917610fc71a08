"""Data that changed since a table was made: refused with the counts, or matched by sample_id."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from easycoreset import Coreset, Scores, UsageError, choose, open_source, score
from easycoreset.data import Split
from easycoreset.options import TrainOptions
from easycoreset.tables.matching import match_contents, match_coreset, match_scores, take_matched
from easycoreset.training import prepare
from easycoreset.training.rows import training_rows
from support.messages import named


def split_of(ids, labels, mark="now", name="train"):
    return Split(name, None, np.array(labels, np.int64), ids, mark)


@pytest.fixture
def scores():
    """Five samples of two classes."""
    return Scores(
        sample_ids=list("abcde"),
        labels=np.array([0, 0, 1, 1, 1]),
        class_names=["cat", "dog"],
        n_obs=np.full(5, 3, np.int32),
        columns={"aign": np.arange(5, dtype=np.float32)},
        features=np.arange(10, dtype=np.float32).reshape(5, 2),
        provenance={"fingerprint": "before", "split": "train"},
    )


def test_scores_are_matched_by_name(scores, caplog):
    caplog.set_level(logging.INFO, "easycoreset")
    found = match_scores(scores, split_of(["d", "x", "a", "b"], [1, 0, 0, 1]))
    np.testing.assert_array_equal(found["aign"], [3, np.nan, 0, np.nan])  # x is new, b has another label now
    assert found["aign"].dtype == np.float32 and found.n_obs.tolist() == [3, 0, 3, 0] and found.n_obs.dtype == np.int32
    assert found.labels.tolist() == [1, 0, 0, 1] and found.sample_ids == ["d", "x", "a", "b"]
    assert found.provenance["fingerprint"] == "now"
    assert found.provenance["matched"] == {"matched": 3, "gone": 2, "new": 1, "relabelled": 1, "from": "before"}
    assert any(named(message, "scores: ", "3 of 5", "2 gone, 1 new, 1 relabelled") for message in caplog.messages)
    assert found.features is None
    with pytest.raises(UsageError, match=r"\b1 new samples\b.*\bfeatures\b"):
        choose(found, method="moderate", fraction=0.5)
    kept = choose(found, method="easiest", fraction=0.5)
    assert kept.index.tolist() == [0, 2]  # never the new one


def test_features_go_along_where_nothing_is_new(scores):
    found = match_scores(scores, split_of(["d", "a"], [1, 0]))
    np.testing.assert_array_equal(found.features[np.array([0, 1])], [[6, 7], [0, 1]])


def test_the_same_data_are_given_back(scores, caplog):
    caplog.set_level(logging.INFO, "easycoreset")
    same = split_of(scores.sample_ids, scores.labels, "before")
    coreset = choose(scores, method="random", fraction=1.0)
    assert match_scores(scores, same) is scores and match_coreset(coreset, same) is coreset and not caplog.messages[1:]


def test_labels_are_compared_by_name_where_names_are_known(scores):
    now = split_of(list("abcde"), [1, 1, 2, 2, 1])  # an "ant" came before the cat; e is a cat now
    found = match_scores(scores, now, ["ant", "cat", "dog"])
    assert found.provenance["matched"]["relabelled"] == 1 and list(found.class_names) == ["ant", "cat", "dog"]
    coreset = match_coreset(choose(scores, method="random", fraction=1.0), now, ["ant", "cat", "dog"])
    assert coreset.provenance["matched"]["relabelled"] == 1 and coreset.labels.tolist() == [1, 1, 2, 2, 1]
    assert coreset.provenance["class_counts"] == {"before": [0, 3, 2], "after": [0, 3, 2]}


def test_a_coreset_keeps_its_order_and_mean_weight(scores):
    chosen = Coreset.from_order(np.array([4, 0, 2, 1]), scores, weight=np.array([4, 1, 2, 1], np.float32))
    found = match_coreset(chosen, split_of(["b", "x", "c", "e", "d"], [0, 1, 1, 1, 1]))
    assert found.keep.tolist() == [True, False, True, True, False] and found.rank.tolist() == [2, -1, 1, 0, -1]
    assert found.weight[found.keep].mean() == pytest.approx(1) and np.isnan(found.weight[~found.keep]).all()
    np.testing.assert_allclose(found.weight[[3, 2, 0]], np.array([4, 2, 1]) * 3 / 7, rtol=1e-6)


def test_matching_equals_a_dictionary_on_random_data():
    rng = np.random.default_rng(0)
    names = [f"s{k}" for k in rng.permutation(500)]
    table = Scores(
        sample_ids=names[:400],
        labels=rng.integers(0, 5, 400),
        class_names=list("abcde"),
        n_obs=np.ones(400, np.int32),
        columns={"loss": rng.random(400).astype(np.float32)},
    )
    now = split_of(list(rng.permutation(names[100:])), rng.integers(0, 5, 400))
    found = match_scores(table, now)
    known = dict(zip(names[:400], table["loss"], strict=True))
    labels = dict(zip(names[:400], table.labels, strict=True))
    same = [labels.get(name) == y for name, y in zip(now.sample_ids, now.labels, strict=True)]
    expected = np.array(
        [known[n] if kept else np.nan for n, kept in zip(now.sample_ids, same, strict=True)], np.float32
    )
    np.testing.assert_array_equal(found["loss"], expected)
    relabelled = sum(labels.get(name, y) != y for name, y in zip(now.sample_ids, now.labels, strict=True))
    assert found.provenance["matched"] == {
        "matched": 300,
        "gone": 100,
        "new": 100,
        "relabelled": relabelled,
        "from": None,
    }


@pytest.mark.parametrize(
    ("ids", "more", "match"),
    [
        (["a", "b", "a"], {}, "^the data: .*'a'"),
        (["x", "y", "z"], {}, r"sample_id.*'a'.*'x'"),
        (["a", "b", "c"], {"name": "test"}, "'train'.*'test'"),
    ],
)
def test_what_cannot_be_matched_is_named(scores, ids, more, match):
    coreset = choose(scores, method="random", fraction=1.0)
    for matched, table in ((match_scores, scores), (match_coreset, coreset)):
        with pytest.raises(UsageError, match=match):
            matched(table, split_of(ids, [0, 1, 0], **more))
    twice = replace(scores, sample_ids=list("abcda"))
    with pytest.raises(UsageError, match=r"^scores: .*\bsample ids\b.*'a'"):
        match_scores(twice, split_of(["a", "b"], [0, 1]))
    with pytest.raises(UsageError, match=r"\b1 samples\b"):
        match_coreset(Coreset.from_order(np.array([4]), scores), split_of(["a", "b"], [0, 1]))


@pytest.fixture
def changed(png_folder, tmp_path):
    """A scored folder, a coreset of it, and a copy in which one sample is gone, one is new and one is relabelled."""
    for part in ("train", "test"):
        shutil.copytree(png_folder, tmp_path / "data" / part)
    options = {"model": "thin-resnet", "image_size": 8, "num_workers": 0}
    scores = score(data=str(tmp_path / "data"), epochs=1, out=tmp_path / "s", **options)
    choose(scores, method="random", fraction=1.0).write(tmp_path / "all.parquet")
    files = sorted((tmp_path / "data" / "train" / "class 0").iterdir())
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    files[0].unlink()
    shutil.copy(files[1], files[1].with_name("new.png"))
    return tmp_path, options


def test_a_copied_folder_is_the_same_data(changed):
    folder, options = changed
    given = TrainOptions(
        data=str(folder / "copy"), coreset=folder / "all.parquet", epochs=1, out=folder / "x", **options
    )
    assert len(prepare(given, epochs=1, updates=None).train_indices) == 36
    one = open_source(str(folder / "copy"), image_size=8)
    scores = Scores.read(folder / "s" / "scores.parquet")
    assert match_scores(scores, one.splits["train"]) is scores


def test_training_on_a_coreset_of_data_that_changed(changed, cli):
    folder, options = changed
    line = (
        "train",
        "--data",
        folder / "data",
        "--coreset",
        folder / "all.parquet",
        "--model",
        "thin-resnet",
        "--image-size",
        8,
        "--epochs",
        1,
        "--out",
        folder / "t",
    )
    ran = cli(*line)
    assert ran.code == 2 and named(ran.err, "35 sample ids", "(--allow-subset")
    ran = cli(*line, "--allow-subset")
    assert ran.code == 0, ran.err
    assert named(ran.err, "all.parquet: ", "35 of 36", "1 gone, 1 new, 0 relabelled")
    source = open_source(str(folder / "data"), image_size=8)
    given = TrainOptions(
        data=str(folder / "data"),
        coreset=folder / "all.parquet",
        allow_subset=True,
        epochs=1,
        out=folder / "x",
        **options,
    )
    index, weight = training_rows(given, source)
    train = source.splits["train"]
    assert weight is None and [name for row, name in enumerate(train.sample_ids) if row not in index] == [
        "train/class 0/new.png"
    ]
    with pytest.raises(UsageError, match=r"^allow_subset\b.*\bcoreset; got True"):
        TrainOptions(data="digits", allow_subset=True, epochs=1, out=folder / "x")


def test_a_relabelled_manifest(png_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "easycoreset")
    files = sorted(png_folder.rglob("*.png"))
    rows = [[str(file), file.parent.name, "test" if k % 6 == 5 else "train"] for k, file in enumerate(files)]
    data = tmp_path / "list.csv"

    def open_rows():
        data.write_text("\n".join(["filepath,label,split", *(",".join(row) for row in rows)]))
        return open_source(str(data), image_size=8)

    before = open_rows()
    train = before.splits["train"]
    table = Scores(
        sample_ids=train.sample_ids,
        labels=train.labels,
        class_names=before.class_names,
        n_obs=np.ones(30, np.int32),
        columns={"aign": np.arange(30, dtype=np.float32)},
        provenance={"fingerprint": train.fingerprint, "split": "train"},
    )
    rows[-2][1] = "class 0"
    del rows[-1]
    rows.append([str(files[-1]), "class 2", "train"])
    now = open_rows()
    found = match_scores(table, now.splits["train"], now.class_names, "scores")
    assert found.provenance["matched"] | {"from": 0} == {"matched": 30, "gone": 0, "new": 1, "relabelled": 1, "from": 0}
    assert found.labels[-2] == 0 and np.isnan(found["aign"][-1])


def test_scores_are_matched_by_content(scores):
    """Copies are told apart by their label; names and the numbers of classes may be others."""
    then = [b"A", b"B", b"C", b"A", b"E"]  # 0 and 3 are copies, as a cat and as a dog
    split = split_of(["p/1", "p/2", "p/3", "p/4", "p/5"], [1, 0, 0, 1, 0])
    now = [b"A", b"A", b"C", b"N", b"B"]  # a dog, a cat, relabelled, new, moved; E is gone
    match = match_contents(scores, split, ["cat", "dog"], (then, now))
    assert match.rows.tolist() == [3, 0, 2, -1, 1] and match.relabelled.tolist() == [False, False, True, False, False]
    assert match.facts == {"matched": 4, "gone": 1, "new": 1, "relabelled": 1}
    found = take_matched(scores, split, ["cat", "dog"], match)
    np.testing.assert_array_equal(found["aign"], [3, 0, np.nan, np.nan, 1])
    assert found.n_obs.tolist() == [3, 3, 0, 0, 3] and list(found.sample_ids) == list(split.sample_ids)
    by_name = match_contents(scores, replace(split, labels=1 - split.labels), ["dog", "cat"], (then, now))
    assert by_name.rows.tolist() == match.rows.tolist() and by_name.facts == match.facts
    one = match_contents(scores, split_of(["x"], [1]), ["cat", "dog"], (then, [b"B"]))
    assert one.rows.tolist() == [1] and one.relabelled.tolist() == [True]
