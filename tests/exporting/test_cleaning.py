"""`clean`: decisions of an audit's page become a folder of links, a manifest or arrays; nothing else is changed."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from easycoreset import UsageError, clean, open_source, select
from support.decisions import decide
from support.messages import named


@pytest.fixture
def photos(tmp_path, digits):
    """40 training and 20 test digits of two classes, as files."""
    for part, count in (("train", 20), ("test", 10)):
        split = digits.splits[part]
        for label in (0, 1):
            folder = tmp_path / "photos" / part / ["zero", "one"][label]
            folder.mkdir(parents=True)
            for row in np.flatnonzero(split.labels == label)[:count]:
                Image.fromarray(split.images.pixels[row, ..., 0].numpy()).save(folder / f"{row}.png")
    (tmp_path / "photos" / "train" / "zero" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def state(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))}


@pytest.mark.parametrize("copy", [False, True])
def test_a_folder_of_links_or_copies(photos, tmp_path, copy):
    before = state(photos)
    old = open_source(str(photos), image_size=8, skip_unreadable=True)
    now = old.splits["train"].sample_ids[1].split("/")[1]
    other = {"zero": "one", "one": "zero"}[now]
    file, ids = decide(photos, ("train", 0, True), ("train", 1, other), ("test", 3, True))
    out = clean(data=str(photos), decisions=file, copy=copy, out=tmp_path / "clean.v2")
    assert state(photos) == before
    new = open_source(str(out), image_size=8)
    moved = ids[1].replace(f"/{now}/", f"/{other}/")
    assert set(new.splits["train"].sample_ids) == (set(old.splits["train"].sample_ids) - set(ids[:2])) | {moved}
    assert set(new.splits["test"].sample_ids) == set(old.splits["test"].sample_ids) - {ids[2]}
    record = json.loads((out / "clean.json").read_text())
    kept = {"part": "train", "label": now}
    assert record["changes"] == [
        {"sample_id": ids[0], "left_out": True, "part": "train", "label": ids[0].split("/")[1]},
        {"sample_id": ids[1], "right_label": other, **kept},
        {"sample_id": ids[2], "left_out": True, "part": "test", "label": ids[2].split("/")[1]},
    ]
    assert all(path.is_symlink() != copy for path in (out / "train").rglob("*.png"))
    assert len(record["unreadable"]) == 1 and record["ignored"] == []
    assert sum(record["classes"]["train"]["after"].values()) == sum(record["classes"]["train"]["before"].values()) - 1


def test_a_relabelled_picture_does_not_replace_one_of_the_same_name(photos, tmp_path):
    (photos / "train" / "one" / "0.png").unlink(missing_ok=True)
    source = open_source(str(photos), image_size=8, skip_unreadable=True)
    first = source.splits["train"].sample_ids[0]
    other = "zero" if "/one/" in first else "one"
    twin = photos / "train" / other / first.rsplit("/", 1)[1]
    Image.new("L", (8, 8), 77).save(twin)
    source = open_source(str(photos), image_size=8, skip_unreadable=True)
    row = source.splits["train"].sample_ids.index(first)
    file, _ = decide(photos, ("train", row, other))
    out = clean(data=str(photos), decisions=file, out=tmp_path / "clean")
    names = sorted(path.name for path in (out / "train" / other).iterdir() if path.stem.startswith(twin.stem))
    assert twin.name in names and f"{twin.stem} 2.png" in names and len(list((out / "train").rglob("*.png"))) == 41


@pytest.mark.filterwarnings("ignore:.*fewer than 10 training samples of class two")
def test_a_manifest_and_arrays(photos, tmp_path):
    file, _ = decide(photos, ("train", 0, True), ("train", 5, "two"))
    with pytest.raises(UsageError, match=r"'two'.*new-classes"):
        clean(data=str(photos), decisions=file, out=tmp_path / "clean.csv")
    clean(data=str(photos), decisions=file, new_classes=True, out=tmp_path / "clean.csv")
    source = open_source(str(tmp_path / "clean.csv"), image_size=8)
    assert sorted(source.class_names) == ["one", "two", "zero"] and len(source.splits["train"]) == 39
    assert json.loads((tmp_path / "clean.clean.json").read_text())["changes"][1]["right_label"] == "two"
    again, _ = decide(tmp_path / "clean.csv", ("train", 0, True), name="again.json")
    clean(data=str(tmp_path / "clean.csv"), decisions=again, out=tmp_path / "twice.csv")
    assert len(open_source(str(tmp_path / "twice.csv"), image_size=8).splits["train"]) == 38
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (20, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2, x_test=x[:6], y_test=np.arange(6) % 2)
    file, _ = decide(tmp_path / "a.npz", ("train", 0, True), ("train", 1, "0"), ("test", 2, True))
    clean(data=str(tmp_path / "a.npz"), decisions=file, out=tmp_path / "b.npz")
    source = open_source(str(tmp_path / "b.npz"))
    assert len(source.splits["train"]) == 19 and len(source.splits["test"]) == 5
    assert (
        source.splits["train"].labels[0] == 0 and (source.splits["train"].images.pixels[..., 0].numpy() == x[1:]).all()
    )
    for data, out, match in (("a.npz", "folder", r"^out\b.*\.npz"), ("photos", "x.npz", r"^out\b.*\.csv")):
        with pytest.raises(UsageError, match=match):
            clean(data=str(tmp_path / data), decisions=file, out=tmp_path / out)
    with pytest.raises(UsageError, match=r"^data\b.*'digits'"):
        clean(data="digits", decisions=file, out=tmp_path / "x.npz")


def test_what_is_gone_or_has_changed_is_listed_and_the_rest_applied(photos, tmp_path, cli):
    file, ids = decide(photos, ("train", 0, True), ("train", 1, True), ("train", 2, True))
    (photos / ids[0]).unlink()
    Image.new("L", (8, 8), 3).save(photos / ids[1])
    ran = cli("clean", photos, "--decisions", file, "--out", tmp_path / "clean")
    assert ran.code == 0 and named(ran.err, "2 decisions not applied", ids[0], "gone", ids[1], "changed"), ran.err
    record = json.loads((tmp_path / "clean" / "clean.json").read_text())
    assert [one["sample_id"] for one in record["ignored"]] == ids[:2]
    assert [one["sample_id"] for one in record["changes"]] == ids[2:]
    assert "1 picture left out, 0 with another label" in ran.out and "Decisions that are not applied: 2" in ran.out


def test_wrong_use(photos, tmp_path):
    others, _ = decide(photos, ("train", 0, True), name="others.json", sample_id="train/zero/elsewhere.png")
    zeros = [
        row
        for row, name in enumerate(
            open_source(str(photos), image_size=8, skip_unreadable=True).splits["train"].sample_ids
        )
        if "/zero/" in name
    ]
    emptied, _ = decide(photos, *(("train", row, True) for row in zeros), name="emptied.json")
    fine, _ = decide(photos, ("train", 0, True), name="fine.json")
    content = json.loads(fine.read_text())
    bad = {
        "list": [],
        "format": {**content, "format": "else"},
        "version": {**content, "version": 2},
        "twice": {**content, "decisions": content["decisions"] * 2},
        "type": {**content, "decisions": [{**content["decisions"][0], "leave_out": "yes"}]},
        "missing": {**content, "decisions": [{"part": "train"}]},
    }
    for name, value in bad.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    for decisions, out, match in (
        (others, "x", r"^decisions\b.*others\.json.*\bgone\b"),
        (emptied, "x", r"^decisions\b.*'zero'.*\btest\b"),
        (tmp_path / "none.json", "x", r"none\.json: no such file"),
        *((tmp_path / f"{name}.json", "x", rf"{name}\.json|twice") for name in bad),
        (fine, "photos", r"^out\b"),
        (fine, "photos/inside", r"^out\b.*\bdata\b"),
    ):
        with pytest.raises(UsageError, match=match):
            clean(data=str(photos), decisions=decisions, out=tmp_path / out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"^out\b.*not empty"):
        clean(data=str(photos), decisions=fine, out=tmp_path / "mine")
    (tmp_path / "mine.csv").write_text("dear")
    with pytest.raises(UsageError, match=r"^out\b.*exists"):
        clean(data=str(photos), decisions=fine, out=tmp_path / "mine.csv")
    assert (tmp_path / "mine" / "letter.txt").read_text() == (tmp_path / "mine.csv").read_text() == "dear"
    assert not (tmp_path / "x").exists()


def test_a_decision_that_is_not_understood_is_refused(photos, tmp_path):
    """Written by hand, with a key that looks right: nothing is passed over in silence."""
    file, _ = decide(photos, ("train", 0, "one"), drop=True)
    with pytest.raises(UsageError, match=r"decisions\[0\].*'drop'"):
        clean(data=str(photos), decisions=file, out=tmp_path / "clean")
    content = json.loads(file.read_text())
    for key in ("drop", "right_label"):
        del content["decisions"][0][key]
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"decisions\[0\] decides nothing.*leave_out"):
        clean(data=str(photos), decisions=file, out=tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_select_leaves_out_what_was_decided(tmp_path, scored):
    file = tmp_path / "decisions.json"
    line = {"digest": "", "label": "0"}
    decisions = [
        {"part": "train", "sample_id": "digits/3", "leave_out": True, **line},
        {"part": "train", "sample_id": "digits/4", "right_label": "1", **line},
        {"part": "test", "sample_id": "digits/5", "leave_out": True, **line},
    ]
    from easycoreset import Scores

    ids = Scores.read(scored).sample_ids
    for row, one in enumerate(decisions[:2]):
        one["sample_id"] = ids[row]
    file.write_text(json.dumps({"format": "easycoreset decisions", "version": 1, "decisions": decisions}))
    kept = select(scores=scored, method="random", fraction=1, exclude=file, out=tmp_path / "c.parquet")
    assert np.flatnonzero(~kept.keep).tolist() == [0]
