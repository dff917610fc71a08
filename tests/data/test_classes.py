"""One rule for labels: whatever spells them, in whatever kind of file, the same classes come out."""

import json
import unicodedata

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from easycoreset import audit, score, train
from easycoreset.data import open_source
from easycoreset.data.classes import number_classes
from easycoreset.errors import UsageError

ROWS = 24
PLACES = np.arange(ROWS) % 3
SPELLED = {
    "integers": ([0, 1, 2], ["0", "1", "2"]),
    "gaps": ([0, 30, 90], ["0", "30", "90"]),
    "whole floats": ([0.0, 8.0, 10.0], ["0", "8", "10"]),
    "numbers as text": (["0", "9", "10"], ["0", "9", "10"]),
    "floats as text": (["1.0", "2.0", "3.0"], ["1", "2", "3"]),
    "text": (["ant", "bee", "cat"], ["ant", "bee", "cat"]),
    "accents": ([unicodedata.normalize("NFD", "é"), "ö", "ü"], ["é", "ö", "ü"]),
}


def pictures(folder):
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{row}.png")
    return [f"{row}.png" for row in range(ROWS)]


def make(kind, folder, labels):
    """A data set of 24 images with these labels, and how `--data` spells it."""
    names = pictures(folder)
    if kind == "npz":
        np.savez(
            folder / "a.npz", x=np.random.default_rng(0).integers(0, 255, (ROWS, 8, 8), np.uint8), y=np.array(labels)
        )
        return str(folder / "a.npz")
    if kind in ("csv", "tsv"):
        mark = {"csv": ",", "tsv": "\t"}[kind]
        lines = [f"FilePath{mark}LABEL", *(f" {name} {mark}{label}" for name, label in zip(names, labels, strict=True))]
        (folder / f"list.{kind}").write_text("\n".join(lines), encoding="utf-8")
        return str(folder / f"list.{kind}")
    if kind == "parquet":
        pq.write_table(pa.table({"Filepath": names, "Label": labels}), folder / "list.parquet")
        return str(folder / "list.parquet")
    held = datasets.Dataset.from_dict({"image": [str(folder / name) for name in names], "label": list(labels)})
    held.cast_column("image", datasets.Image()).save_to_disk(folder / "hf")
    return f"hf:{folder / 'hf'}"


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.parametrize("kind", ["npz", "csv", "tsv", "parquet", "hf"])
@pytest.mark.parametrize("spelled", [*SPELLED, "booleans"])
def test_every_kind_of_label_in_every_kind_of_file(tmp_path, kind, spelled):
    values, names = SPELLED.get(spelled, ([False, True, True], ["False", "True"]))
    source = open_source(make(kind, tmp_path, [values[place] for place in PLACES]))
    assert list(source.class_names) == names
    counts = sum(np.bincount(split.labels, minlength=len(names)) for split in source.splits.values())
    assert counts.tolist() == ([8, 16] if spelled == "booleans" else [8, 8, 8])


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.parametrize("kind", ["csv", "parquet", "hf"])
def test_a_missing_label_is_named(tmp_path, kind):
    labels = ["a" if place else None for place in PLACES]
    if kind == "csv":
        labels = [label or "" for label in labels]
    with pytest.raises(UsageError, match=r"label.*\brow\b"):
        open_source(make(kind, tmp_path, labels))


def test_empty_classes_change_no_verdict(tmp_path, digits):
    """719 digits of four classes: the same labels are called wrong whatever their numbers are multiplied by."""
    split = digits.splits["train"]
    rows = np.flatnonzero(split.labels < 4)
    x = split.images.pixels[rows].numpy()
    y = split.labels[rows].copy()
    y[::9] = (y[::9] + 1) % 4
    found = set()
    for factor in (1, 8, 30):
        data = str(tmp_path / f"{factor}.npz")
        np.savez(data, x=x, y=y * factor)
        score(data=data, epochs=3, model="digits-cnn", out=tmp_path / f"s{factor}")
        table = audit(data=data, scores=tmp_path / f"s{factor}", judge="epochs", out=tmp_path / f"a{factor}").table
        found.add(tuple(table["likely_mislabelled"].to_pylist()))
    assert len(found) == 1 and sum(found.pop()) > 10


def test_classes_are_fixed_by_a_number_or_a_file(tmp_path):
    data = str(tmp_path / "a.npz")
    np.savez(data, x=np.random.default_rng(0).integers(0, 255, (ROWS, 8, 8), np.uint8), y=PLACES * 2)
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    (tmp_path / "names.json").write_text(json.dumps(["ant", "bee", "cat", "dog", "eel"]))
    assert list(open_source(data, classes="5").class_names) == ["0", "1", "2", "3", "4"]
    for file in ("names.txt", "names.json"):
        source = open_source(data, classes=str(tmp_path / file))
        assert list(source.class_names) == ["ant", "bee", "cat", "dog", "eel"]
        assert set(source.splits["train"].labels) == {0, 2, 4}
    train(data=data, classes="6", model="digits-cnn", updates=1, batch_size=8, out=tmp_path / "six")
    assert len(open_source(data, classes=str(tmp_path / "six" / "model.json")).class_names) == 6
    for given, match in (("1", r"^classes.* 1$"), ("3", "classes '3'.* 4$"), ("gone.txt", r"^classes.*'gone\.txt'")):
        with pytest.raises(UsageError, match=match):
            open_source(data, classes=given)
    with pytest.raises(UsageError, match="^classes.*'digits'"):
        open_source("digits", classes="12")


def test_names_of_numbers_are_places_unless_they_are_numbers(tmp_path):
    (tmp_path / "numbers.txt").write_text("10\n20\n30\n")
    names, labels, _ = number_classes({"train": [30, 10, 20]}, "it", str(tmp_path / "numbers.txt"))
    assert names == ["10", "20", "30"] and labels["train"].tolist() == [2, 0, 1]
    names, labels, _ = number_classes({"train": [1, 0], "test": [1]}, "it", known_names=["cat", "dog", "eel"])
    assert names == ["cat", "dog"] and labels["test"].tolist() == [1]
    with pytest.raises(UsageError, match=r"labels.*\b0\.5\b.*\brow 1$"):
        number_classes({"train": [0, 0.5]}, "it")


def test_large_numbers_are_exact():
    large = ["123456789012345678", "123456789012345679", "99999999999999999999"]
    assert number_classes({"train": large}, "it")[0] == large


ARRAYS = {
    "Keras": ("x_train", "y_train", "x_test", "y_test"),
    "MedMNIST": ("train_images", "train_labels", "test_images", "test_labels"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_keras_and_medmnist(tmp_path, name):
    x = np.random.default_rng(0).integers(0, 255, (ROWS, 8, 8), np.uint8)
    given = dict(zip(ARRAYS[name], (x, PLACES[:, None], x[:6], PLACES[:6, None]), strict=True))
    np.savez(tmp_path / "a.npz", val_images=x[:3], val_labels=PLACES[:3], **given)
    source = open_source(str(tmp_path / "a.npz"))
    assert [len(split) for split in source.splits.values()] == [24, 6]


def test_what_an_archive_holds_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=np.zeros((3, 8, 8)), target=np.zeros(3))
    with pytest.raises(UsageError, match=r"a\.npz: .*\bpixels, target\b"):
        open_source(str(tmp_path / "a.npz"))
