"""Manifests: a table of image files is the data set that it lists, and everything that is wrong with it is named."""

import csv
import json
import os
import shutil
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from easycoreset import Coreset, UsageError, export, open_source, score, select
from easycoreset.data import images
from easycoreset.errors import EasycoresetWarning
from support.messages import FEW_SAMPLES, named
from support.sources import check_source


def write(file, rows, header=("filepath", "label", "split")):
    """Rows of (filepath, label[, split]) as CSV or Parquet."""
    header = header[: len(rows[0])] if rows else header
    if file.suffix == ".csv":
        with open(file, "w", encoding="utf-8", newline="") as opened:
            csv.writer(opened).writerows([header, *rows])
    else:
        pq.write_table(pa.table({name: [row[k] for row in rows] for k, name in enumerate(header)}), file)
    return file


@pytest.fixture
def listed(png_folder):
    """The rows (path, class) of the folder's images, relative to the folder above it."""
    files = sorted(png_folder.rglob("*.png"))
    return [(str(file.relative_to(png_folder.parent)), file.parent.name) for file in files]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_it_is_the_data_set_that_it_lists(png_folder, listed, suffix, monkeypatch):
    source = open_source(str(write(png_folder.parent / f"list{suffix}", listed)), image_size=16)
    check_source(source)
    folder = open_source(str(png_folder), image_size=16)
    assert source.shape == (3, 16, 16) and source.augmentation == "none" and folder.augmentation == "flip"
    assert source.class_names == folder.class_names == ["class 0", "class 1", "class 2"]
    assert any(named(note, "stratified", "6 images") for note in source.notes)
    pixels = {}
    for one, prefix in ((source, "images/"), (folder, "")):
        for split in one.splits.values():
            batch = next(split.batches(np.arange(len(split)), len(split)))
            for name, x, y in zip(split.sample_ids, batch.x, batch.y, strict=True):
                pixels.setdefault(name.removeprefix(prefix), []).append((x, int(y)))
    assert len(pixels) == 36 and all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in pixels.values())
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    lazy = open_source(str(png_folder.parent / f"list{suffix}"), image_size=16, num_workers=0)
    assert torch.equal(
        next(lazy.splits["train"].batches(np.arange(5), 5)).x, next(source.splits["train"].batches(np.arange(5), 5)).x
    )


@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_a_copy_is_the_same_data_and_a_changed_one_is_not(png_folder, listed, tmp_path):
    marks = []
    for place in ("a", "b"):
        shutil.copytree(png_folder, tmp_path / place / "images")
        data = write(
            tmp_path / place / "list.csv", [(*row, "train" if k % 6 else "test") for k, row in enumerate(listed)]
        )
        marks.append(open_source(str(data)).splits["train"].fingerprint)
    assert marks[0] == marks[1]
    relabelled = [
        (path, "class 0" if k == 1 else label, "train" if k % 6 else "test")
        for k, (path, label) in enumerate(listed[::-1])
    ]
    assert open_source(str(write(tmp_path / "a" / "list.csv", relabelled))).splits["train"].fingerprint != marks[0]


def test_paths_may_be_absolute_and_go_up_and_hold_anything(png_folder, listed, tmp_path):
    names = ["new\nline.png", "quo\"te's.png", "naïve 猫, ü.png", " space.png"]
    for name in names:
        shutil.copy(png_folder.parent / listed[0][0], png_folder / name)
    rows = [(str(png_folder.parent / path), label) for path, label in listed]
    rows += [(os.path.join("..", png_folder.name, name), "class 0") for name in names]
    (png_folder.parent / "lists").mkdir()
    for suffix in (".csv", ".parquet"):
        source = open_source(str(write(png_folder.parent / "lists" / f"list{suffix}", rows)), image_size=8)
        ids = [name for split in source.splits.values() for name in split.sample_ids]
        assert sorted(ids) == sorted(path for path, _ in rows)
    folder = open_source(str(shutil.move(png_folder / names[0], png_folder / "class 0") and png_folder), image_size=8)
    assert any(name.endswith("\nline.png") for split in folder.splits.values() for name in split.sample_ids)
    train = source.splits["train"]
    coreset = Coreset(
        keep=np.ones(len(train), bool),
        rank=np.arange(len(train)),
        weight=np.ones(len(train), np.float32),
        sample_ids=train.sample_ids,
        labels=train.labels,
    )
    coreset.write(tmp_path / "c.parquet")
    assert Coreset.read(tmp_path / "c.parquet").sample_ids == list(train.sample_ids)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_numbers_are_classes_also_with_gaps(png_folder, listed, suffix):
    numbers = [(path, int(label[-1])) for path, label in listed]
    data = write(png_folder.parent / f"list{suffix}", numbers)
    plain = open_source(str(data))
    assert plain.class_names == ["0", "1", "2"] and not any("occur" in note for note in plain.notes)
    source = open_source(str(write(data, [(path, 9 * label + 1) for path, label in numbers])))
    assert source.class_names == ["1", "10", "19"] and set(source.splits["train"].labels) == {0, 1, 2}
    assert any(named(note, "1, 10, 19") for note in source.notes)


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_as_spreadsheets_write_it(png_folder, listed, delimiter, encoding):
    plain = open_source(str(write(png_folder.parent / "plain.csv", listed)))
    rows = [f"{path.replace('/', chr(92))}{delimiter} {label} " for path, label in listed]
    text = "\r\n".join([f"FilePath{delimiter} Label", *rows, ""])
    (png_folder.parent / "list.csv").write_bytes(text.encode(encoding))
    source = open_source(str(png_folder.parent / "list.csv"))
    assert source.class_names == plain.class_names
    found = {path.replace(chr(92), "/") for split in source.splits.values() for path in split.sample_ids}
    assert found == {path for path, _ in listed}


def test_classes_that_hardly_differ_are_a_warning(png_folder, listed):
    rows = [(path, label.upper() if k % 2 else label) for k, (path, label) in enumerate(listed)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_source(str(write(png_folder.parent / "list.csv", rows)))
    assert any(named(str(one.message), "CLASS 0, class 0") for one in caught)


def test_parts_by_the_split_column(png_folder, listed):
    splits = ["Train", "test", "train", "VAL"]
    rows = [(*row, splits[k % 4]) for k, row in enumerate(listed)]
    with pytest.warns(EasycoresetWarning, match=r"\b10\b.*\bclass 0"):
        source = open_source(str(write(png_folder.parent / "list.csv", rows)))
    assert [len(split) for split in source.splits.values()] == [18, 9]
    assert source.splits["test"].sample_ids == [row[0] for row in rows[1::4]]
    assert any(named(note, "9 rows", "'val'", "'test'") for note in source.notes)
    again = open_source(str(write(png_folder.parent / "list.csv", [(*row[:2], "train") for row in rows + rows[:7]])))
    assert sum(map(len, again.splits.values())) == 36 and any(named(note, "7 rows") for note in again.notes)


def test_a_change_moves_hardly_any_other_sample(png_folder, listed):
    data = png_folder.parent / "list.csv"
    before = open_source(str(write(data, listed))).splits["test"].sample_ids
    with pytest.warns(EasycoresetWarning, match=r"list\.csv: .*\b10\b.*\bclass 0 \(8\)"):
        after = (
            open_source(str(write(data, [row for row in listed if row[0] not in before[:2]]))).splits["test"].sample_ids
        )
    assert set(before) - set(after) <= {*before[:2], *before[-1:]} and len(set(after) - set(before)) <= 2


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (
            lambda rows: [(path + "x", y) for path, y in rows],
            r"36 of 36 files.* images\S* 0/\S*.pngx, .*\.\.\.$",
        ),
        (lambda rows: [*rows, ("images", "class 0")], "1 of 37 files.* images$"),
        (lambda rows: [*rows, ("no\nne", "class 0")], r"1 of 37 files.* 'no\\nne'$"),
        (lambda rows: [*rows, ("https://x.org/a.png", "class 0")], r"filepath.*\b1\b.*URL.*https://x\.org/a\.png"),
        (lambda rows: [], r"list\.csv: .*\brow\b"),
        (
            lambda rows: [*rows, ("./" + rows[0][0], "class 1")],
            r"path.*\blabel; 1\b.*'class 0'.*'class 1'",
        ),
        (lambda rows: [(path, "cat") for path, _ in rows], r"list\.csv: .*\bclasses\b"),
        (lambda rows: [(path, "99") for path, _ in rows], r"list\.csv: .*\bclasses\b"),
        (lambda rows: [(path, "-1") for path, _ in rows], "label.* -1$"),
        (lambda rows: [*rows, (rows[0][0], "")], r"label.*\b1\b.*\brow 37\b"),
        (lambda rows: [(*row, "tset") for row in rows], r"split.*'tset'.*\b36\b.*'test'"),
        (lambda rows: [(*row, "test") for row in rows], r"list\.csv: .*\bsplit train\b"),
        (
            lambda rows: [(*row, "test" if row[1][-1] == "2" else "train") for row in rows],
            r"list\.csv: .*\bclasses\b.* class 2$",
        ),
        (lambda rows: [(*row, "train") for row in rows] + [(*rows[0], "test")], r"path.*\bsplit; 1\b"),
    ],
)
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_bad_rows_are_named(png_folder, listed, spoil, match):
    with pytest.raises(UsageError, match=match):
        open_source(str(write(png_folder.parent / "list.csv", spoil(listed))))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", r"column 'filepath'.*\bempty\b"),
        (b"filepath,labels\na.png,1\n", "column 'label'.*'labels'"),
        (b"filepath,label,label\na.png,1,2\n", r"column 'label'.*\b2\b"),
        (b"path,label\na.png,1\n", "column 'filepath'.*'path'"),
        (b"filepath|label\na.png|1\n", "column 'filepath'"),
        (b"filepath,label\na.png\n", r"line 2\b.*\b1\b.*\b2$"),
        (b'filepath,label\n"a.png,1\n', r"list\.csv: .*\bCSV\b.*\bend\b"),
        (b"filepath,label\n\xff.png,1\n", r"list\.csv: .*\bCSV\b.*'utf-8'"),
        (b"\x89PNG\r\n\x1a\n\x00", r"list\.csv: .*\bCSV\b"),
    ],
)
def test_broken_csv_is_named(tmp_path, text, match):
    (tmp_path / "list.csv").write_bytes(text)
    with pytest.raises(UsageError, match=match):
        open_source(str(tmp_path / "list.csv"))


def test_broken_parquet_is_named(tmp_path, scored):
    for columns, match in [
        ({"filepath": ["a"], "label": [b"a"]}, r"label.*\bbinary$"),
        ({"filepath": [1], "label": [1]}, r"filepath.*\bint64$"),
        ({"filepath": ["a", None], "label": [1, 2]}, r"filepath.*\b1\b"),
    ]:
        pq.write_table(pa.table(columns), tmp_path / "list.parquet")
        with pytest.raises(UsageError, match=match):
            open_source(str(tmp_path / "list.parquet"))
    (tmp_path / "list.parquet").write_text("filepath,label")
    with pytest.raises(UsageError, match=r"list\.parquet.*\bParquet\b"):
        open_source(str(tmp_path / "list.parquet"))
    with pytest.raises(UsageError, match="column 'filepath'"):
        open_source(str(scored / "scores.parquet"))
    with pytest.raises(UsageError, match=r"gone\.csv"):
        open_source(str(tmp_path / "gone.csv"))


def test_the_commands_take_it(cli, png_folder, listed, tmp_path):
    data = write(tmp_path / "list.csv", listed)
    ran = cli(
        "score", "--data", data, "--model", "thin-resnet", "--epochs", 1, "--image-size", 8, "--out", tmp_path / "s"
    )
    assert ran.code == 0 and named(ran.err, "stratified", "6 images")
    ran = cli("train", "--data", data, "--image-size", 8, "--skip-unreadable", "--epochs", 1, "--out", tmp_path / "s")
    assert ran.code == 2
    ran = cli("train", "--data", "digits", "--skip-unreadable", "--epochs", 1, "--out", tmp_path / "t")
    assert ran.code == 2 and named(ran.err, "skip_unreadable", "'digits'")


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")  # few samples a class
def test_a_coreset_of_it_becomes_a_folder_a_class(cli, png_folder, listed, tmp_path):
    """Images that lie anywhere are linked under their index, and named to FiftyOne where they are."""
    (tmp_path / "lists").mkdir()
    up = [(f"../{path}", label) for path, label in listed]
    up[0] = (str(tmp_path / listed[0][0]), listed[0][1])
    data = write(tmp_path / "lists" / "of them.csv", up)
    score(data=str(data), model="thin-resnet", epochs=1, image_size=8, out=tmp_path / "s")
    select(scores=tmp_path / "s" / "scores.parquet", fraction=0.5, per_class=True, out=tmp_path / "half.parquet")
    half = Coreset.read(tmp_path / "half.parquet")
    kept = {half.sample_ids[row]: half.labels[row] for row in half.index.tolist()}
    for copy in (False, True):
        export(tmp_path / "half.parquet", format="folder", copy=copy, out=tmp_path / f"kept {copy}")
        files = list((tmp_path / f"kept {copy}").rglob("*.png"))
        assert len(files) == len(kept) and all(file.is_symlink() != copy for file in files)
        found = sorted((file.parent.name, file.read_bytes()) for file in files)
        assert found == sorted((f"class {label}", (data.parent / name).read_bytes()) for name, label in kept.items())
    export(tmp_path / "half.parquet", format="fiftyone", out=tmp_path / "f.json")
    samples = json.loads((tmp_path / "f.json").read_text())["samples"]
    assert [
        os.path.samefile(s["filepath"], data.parent / name) for s, name in zip(samples, half.sample_ids, strict=True)
    ] == [True] * len(half.labels)
    (data.parent / half.sample_ids[3]).unlink()
    with pytest.raises(UsageError, match=f"lacks 1 of {len(half.labels)} samples"):
        export(tmp_path / "half.parquet", format="folder", out=tmp_path / "gone")
