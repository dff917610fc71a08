"""A data set read with decisions: pictures are left out or get another label, and all commands see that."""

import json

import numpy as np
import pytest
from PIL import Image

from easycoreset import Scores, UsageError, audit, evaluate, export, open_source, predict, score, select, train
from easycoreset.data import images
from easycoreset.data.in_memory import name_data
from easycoreset.options import CompareOptions
from easycoreset.tables.fingerprint import fingerprint
from easycoreset.workflow.comparing import plan_comparison
from support.decisions import decide
from support.messages import named


@pytest.fixture
def photos(tmp_path, digits):
    """Three uneven classes of digits as files, without a test part: a fifth is held out."""
    split = digits.splits["train"]
    for label, count in ((0, 30), (1, 20), (2, 12)):
        folder = tmp_path / "photos" / ["zero", "one", "two"][label]
        folder.mkdir(parents=True)
        for row in np.flatnonzero(split.labels == label)[:count]:
            Image.fromarray(split.images.pixels[row, ..., 0].numpy()).save(folder / f"{row}.png")
    return tmp_path / "photos"


LINES = (("train", 3, True), ("train", 5, "two"), ("train", 40, "one"), ("test", 2, True), ("test", 0, "two"))


@pytest.mark.parametrize("in_memory", [True, False])
def test_rows_go_and_labels_change(photos, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    file, ids = decide(photos, *LINES)
    old = open_source(str(photos), image_size=8, num_workers=0)
    new = open_source(str(photos), image_size=8, num_workers=0, decisions=file)
    assert new.class_names == old.class_names and any("2 left out, 3 with another label" in note for note in new.notes)
    label_of = {}
    for part, (gone, relabelled) in {"train": (ids[0], ids[1:3]), "test": (ids[3], ids[4:])}.items():
        before, after = old.splits[part], new.splits[part]
        assert list(after.sample_ids) == [name for name in before.sample_ids if name != gone]
        assert before.fingerprint != after.fingerprint
        rows = [list(before.sample_ids).index(name) for name in after.sample_ids]
        x = next(after.batches(np.arange(len(after)), len(after)))
        y = next(before.batches(np.array(rows), len(rows)))
        assert (x.x == y.x).all() and (x.y.numpy() == after.labels).all()
        label_of |= {name: new.class_names[k] for name, k in zip(after.sample_ids, after.labels, strict=True)}
        changed = {n for n, a, b in zip(after.sample_ids, after.labels, before.labels[rows], strict=True) if a != b}
        assert changed == set(relabelled)
    assert [label_of[ids[n]] for n in (1, 2, 4)] == ["two", "one", "two"]


def test_what_changes_nothing_is_the_same_data(photos):
    now = open_source(str(photos), image_size=8)
    names = [now.class_names[k] for k in now.splits["train"].labels[:2]]
    file, _ = decide(photos, ("test", 1, True), ("train", 0, names[0]), ("train", 1, names[1]))
    read = open_source(str(photos), image_size=8, decisions=file)
    assert read.splits["train"].fingerprint == now.splits["train"].fingerprint
    assert read.splits["test"].fingerprint != now.splits["test"].fingerprint


def test_decisions_that_are_in_effect_already_are_fine(photos):
    now = open_source(str(photos), image_size=8)
    file, _ = decide(photos, ("train", 0, now.class_names[now.splits["train"].labels[0]]))
    read = open_source(str(photos), image_size=8, decisions=file)
    assert [split.fingerprint for split in read.splits.values()] == [s.fingerprint for s in now.splits.values()]


def test_the_fingerprint_is_that_of_such_a_folder(photos):
    """So that tables of decided data know their pictures on disk."""
    file, ids = decide(photos, ("train", 0, True))
    read = open_source(str(photos), image_size=8, decisions=file).splits["train"]
    sizes = [str((photos / name).stat().st_size).encode() for name in read.sample_ids]
    assert read.fingerprint == fingerprint(read.sample_ids, read.labels, sizes) and ids[0] not in read.sample_ids


def test_arrays_and_named_data(tmp_path, digits):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 255, (30, 8, 8, 1), np.uint8), y=np.arange(30) % 3)
    file, ids = decide(tmp_path / "a.npz", ("train", 4, True), ("train", 6, "2"))
    split = open_source(str(tmp_path / "a.npz"), decisions=file).splits["train"]
    assert ids[0] not in split.sample_ids and split.labels[list(split.sample_ids).index(ids[1])] == 2
    for_digits, ids = decide(tmp_path / "digits", ("train", 4, True), data="digits")
    assert len(open_source("digits", decisions=for_digits).splits["train"]) == len(digits.splits["train"]) - 1


def test_every_command_reads_them(photos, tmp_path):
    file, ids = decide(photos, *LINES)
    given = {"data": str(photos), "image_size": 8, "decisions": file}
    scores = score(**given, model="digits-cnn", epochs=1, out=tmp_path / "scores")
    assert ids[0] not in scores.sample_ids and len(scores) == len(Scores.read(tmp_path / "scores"))
    train(**given, model="digits-cnn", epochs=1, out=tmp_path / "model")
    found = audit(**given, scores=scores, judge="epochs", out=tmp_path / "audit")
    assert found.table.num_rows == len(scores)
    assert json.loads((tmp_path / "audit" / "decided.json").read_text()) == json.loads(file.read_text())
    grid = {"methods": ["random"], "fractions": [0.5], "updates": [1], "controls": ["none"], "seeds": 1}
    plan = plan_comparison(CompareOptions(**given, **grid, model=["digits-cnn"], eps=[0.1], out=tmp_path / "grid"))
    split = open_source(str(photos), image_size=8, decisions=file).splits["train"]
    keys = {step.kind: step.inputs["data"].key for step in plan.targets}
    assert {"train", "evaluate"} <= set(keys) and all(split.fingerprint in key for key in keys.values())
    with pytest.raises(UsageError, match="decisions"):
        predict(data=str(photos), weights=tmp_path / "model", decisions=file, out=tmp_path / "labels")


def test_a_coreset_of_decided_arrays_is_exported_with_them(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=np.arange(30) % 3, x_test=x[30:], y_test=np.arange(10) % 3)
    file, _ = decide(tmp_path / "a.npz", ("train", 4, True), ("train", 6, "2"))
    given = {"data": str(tmp_path / "a.npz"), "decisions": file}
    scores = score(**given, epochs=1, model="digits-cnn", out=tmp_path / "scores")
    coreset = select(scores=scores, fraction=0.9, method="random", out=tmp_path / "coreset.parquet")
    with pytest.raises(UsageError, match="other data: 29 samples against 30"):
        export(source=tmp_path / "coreset.parquet", format="folder", data=given["data"], out=tmp_path / "images")
    export(source=tmp_path / "coreset.parquet", format="folder", **given, out=tmp_path / "images")
    assert len(list((tmp_path / "images").rglob("*.png"))) == len(coreset) < 30
    with pytest.raises(UsageError, match="decisions is for format folder"):
        export(source=tmp_path / "coreset.parquet", format="csv", decisions=file, out=tmp_path / "c.csv")


@pytest.mark.filterwarnings("ignore:data arrays")
def test_a_module_trained_on_decided_arrays_is_evaluated_on_what_was_held_out(tmp_path, digits):
    """And not on all of them, as a module that was trained elsewhere."""
    split = digits.splits["train"]
    data = split.images.pixels[:100].numpy(), split.labels[:100]
    file, _ = decide(tmp_path / "arrays", ("train", 3, True), data=name_data(data))
    given = {"data": data, "decisions": file}
    model = train(**given, model="digits-cnn", epochs=1)
    result = evaluate(weights=model, **given, attack="noise", eps=[0.1])
    assert len(result.clean.index) == len(open_source(name_data(data)).splits["test"]) < 100


def test_bad_decisions(photos, tmp_path, cli):
    file, _ = decide(photos, ("train", 0, "nought"))
    with pytest.raises(UsageError, match="not a class") as raised:
        open_source(str(photos), image_size=8, decisions=file)
    assert named(str(raised.value), "nought", "clean --new-classes")
    source = open_source(str(photos), image_size=8)
    ones = np.flatnonzero(source.splits["train"].labels == list(source.class_names).index("one"))
    class_gone = [("train", int(row), True) for row in ones]
    file, _ = decide(photos, *class_gone)
    with pytest.raises(UsageError, match="'one'"):
        open_source(str(photos), image_size=8, decisions=file)
    file, _ = decide(photos, *[("test", row, True) for row in range(len(source.splits["test"]))])
    with pytest.raises(UsageError, match="no picture of the test part"):
        open_source(str(photos), image_size=8, decisions=file)
    other, _ = decide(photos, ("train", 0, True), digest="0" * 16)
    with pytest.raises(UsageError, match="has changed"):
        open_source(str(photos), image_size=8, decisions=other)
    refused = cli(
        "score", "--data", photos, "--epochs", 1, "--decisions", tmp_path / "none.json", "--out", tmp_path / "s"
    )
    assert refused.code == 2 and "none.json" in refused.err


def test_one_that_has_gone_is_told_and_the_rest_applied(photos):
    file, ids = decide(photos, ("train", 0, True), ("train", 1, True))
    (photos / ids[0]).unlink()
    read = open_source(str(photos), image_size=8, decisions=file)
    assert ids[1] not in {*read.splits["train"].sample_ids, *read.splits["test"].sample_ids}
    assert any(named(note, "1 decision", ids[0], "is gone") for note in read.notes)
