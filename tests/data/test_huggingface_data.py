"""Data of Hugging Face: digits as a saved folder, as Parquet files, with and without a test split, and bad ones named."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from easycoreset import Scores, UsageError, choose, open_source
from easycoreset.data import images as pictures
from support.messages import named
from support.sources import check_source

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def image(row, size=(8, 8), mode="L"):
    values = np.random.default_rng(row).integers(0, 256, (*size[::-1], 4), np.uint8)
    return Image.fromarray(values[..., 0]) if mode == "L" else Image.fromarray(values, "RGBA").convert(mode)


def made(rows=30, label=True, sizes=((8, 8),), mode="L", **columns):
    """A data set of `rows` images in 3 classes."""
    content = {"image": [image(row, sizes[row % len(sizes)], mode) for row in range(rows)]}
    kinds = {"image": datasets.Image()}
    if label:
        content["label"] = [row % 3 for row in range(rows)]
        kinds["label"] = datasets.ClassLabel(names=["ant", "bee", "cat"])
    for name, (values, kind) in columns.items():
        content[name] = values
        kinds[name] = kind
    return datasets.Dataset.from_dict(content, datasets.Features(kinds))


def pixels(source, part="train"):
    return source.splits[part].images.pixels.numpy()


def test_a_saved_folder(tmp_path):
    datasets.DatasetDict(train=made(), test=made(12)).save_to_disk(tmp_path / "pets")
    source = open_source(f"hf:{tmp_path / 'pets'}")
    check_source(source)
    assert source.class_names == ["ant", "bee", "cat"] and source.shape == (1, 8, 8) and source.notes == []
    assert [len(split) for split in source.splits.values()] == [30, 12] and source.augmentation == "none"
    assert source.splits["train"].sample_ids[:3] == ["0", "1", "2"]
    assert np.array_equal(pixels(source)[7, :, :, 0], np.asarray(image(7)))
    again = open_source(f"hf:{tmp_path / 'pets'}")
    assert [s.fingerprint for s in again.splits.values()] == [s.fingerprint for s in source.splits.values()]
    other = made().to_dict()
    other["label"][0] = 1
    datasets.Dataset.from_dict(other, made().features).save_to_disk(tmp_path / "other")
    assert open_source(f"hf:{tmp_path / 'other'}").splits["train"].fingerprint != source.splits["train"].fingerprint


def test_without_a_test_part_a_fifth_is_held_out(tmp_path):
    made().save_to_disk(tmp_path / "one")
    source = open_source(f"hf:{tmp_path / 'one'}")
    check_source(source)
    assert [len(split) for split in source.splits.values()] == [24, 6] and "held out" in source.notes[0]
    rows = sorted(int(name) for split in source.splits.values() for name in split.sample_ids)
    assert rows == list(range(30))
    for split in source.splits.values():
        first = int(split.sample_ids[0])
        assert np.array_equal(split.images.pixels[0, :, :, 0].numpy(), np.asarray(image(first)))
        assert split.labels[0] == first % 3
    unlabelled = made(9, label=False, label_=([0] * 9, datasets.Value("int64"))).rename_column("label_", "label")
    unlabelled = unlabelled.map(lambda row: {"label": -1}).cast(made().features)
    datasets.DatasetDict(train=made(), test=unlabelled, validation=made(6)).save_to_disk(tmp_path / "val")
    source = open_source(f"hf:{tmp_path / 'val'}")
    assert len(source.splits["test"]) == 6 and [named(note, "'validation'", "test") for note in source.notes] == [True]


def test_parquet_files(tmp_path):
    names = [f"pet-{row}" for row in range(30)]
    data = made(mode="RGB", id=(names, datasets.Value("string")))
    data.to_parquet(tmp_path / "pets.parquet")
    (tmp_path / "folder").mkdir()
    data.to_parquet(tmp_path / "folder" / "train-00000-of-00001.parquet")
    made(12, mode="RGB", id=(names[:12], datasets.Value("string"))).to_parquet(
        tmp_path / "folder" / "test-00000-of-00001.parquet"
    )
    one = open_source(f"hf:{tmp_path / 'pets.parquet'}")
    folder = open_source(f"hf:{tmp_path / 'folder'}")
    check_source(one)
    check_source(folder)
    assert one.shape == folder.shape == (3, 8, 8) and folder.splits["train"].sample_ids == names
    assert [len(split) for split in folder.splits.values()] == [30, 12]
    assert np.array_equal(pixels(folder)[7], np.asarray(image(7, mode="RGB")))


def test_parquet_without_types_of_datasets(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = []
    for row in range(30):
        buffer = io.BytesIO()
        image(row).save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(encoded, kind), "y": np.arange(30) % 3}), tmp_path / "plain.parquet")
    source = open_source(f"hf:{tmp_path / 'plain.parquet'}")
    check_source(source)
    assert source.class_names == ["0", "1", "2"] and source.shape == (1, 8, 8)


def test_sizes(tmp_path, monkeypatch):
    made(sizes=((8, 8), (10, 6)), mode="RGB").save_to_disk(tmp_path / "mixed")
    source = open_source(f"hf:{tmp_path / 'mixed'}")
    assert source.shape == (3, 64, 64) and named(source.notes[-1], "64 pixels (--image-size)")
    assert open_source(f"hf:{tmp_path / 'mixed'}", image_size=16).shape == (3, 16, 16)
    made(sizes=((10, 6),)).save_to_disk(tmp_path / "wide")
    assert open_source(f"hf:{tmp_path / 'wide'}").shape == (1, 6, 10)
    assert open_source(f"hf:{tmp_path / 'wide'}", image_size=10).shape == (1, 10, 10)
    made().save_to_disk(tmp_path / "same")
    held = open_source(f"hf:{tmp_path / 'same'}", image_size=8)
    assert held.shape == (1, 8, 8) and "held out" in held.notes[0] and len(held.notes) == 1
    monkeypatch.setattr(pictures, "MEMORY_LIMIT", 100)  # decoded by workers as they are needed, in colour
    streamed = open_source(f"hf:{tmp_path / 'same'}", num_workers=0)
    check_source(streamed)
    assert streamed.shape == (3, 8, 8) and streamed.splits["train"].fingerprint == held.splits["train"].fingerprint
    x = next(streamed.splits["train"].batches(np.array([3]), 1)).x
    assert np.array_equal((x[0, 1] * 255).round().numpy(), pixels(held)[3, :, :, 0])


def test_bad_data_is_named(tmp_path, monkeypatch):
    rows = list(range(30))
    text = datasets.Value("string")
    for name, data, match in [
        ("none", made().remove_columns("image"), r"column of images.*\bnone\b.*\blabel$"),
        (
            "two",
            made(second=([image(r) for r in rows], datasets.Image())),
            r"column of images.*\bimage, second among image, label",
        ),
        (
            "bare",
            made(label=False, kind=(rows, datasets.Value("int64"))),
            r"column of labels.*\blabel, labels, fine_label, y\b.*\bimage, kind$",
        ),
        (
            "gap",
            made(label=False, label_=(["a", None] * 15, text)).rename_column("label_", "label"),
            r"\blabel\b.*\brow 1$",
        ),
        (
            "vague",
            made(label=False, a=([0] * 30, datasets.ClassLabel(2)), b=([0] * 30, datasets.ClassLabel(2))),
            r"column of labels.*\ba, b$",
        ),
        ("one", made(label=False, y=([0] * 30, datasets.Value("int64"))), r"\bclasses\b"),
    ]:
        data.save_to_disk(tmp_path / name)
        with pytest.raises(UsageError, match=match):
            open_source(f"hf:{tmp_path / name}")
    broken = made().cast_column("image", datasets.Image(decode=False)).to_dict()
    broken["image"][4]["bytes"] = b"nothing"
    broken["image"][9]["bytes"] = broken["image"][9]["bytes"][:60]
    datasets.Dataset.from_dict(broken, made().features).save_to_disk(tmp_path / "broken")
    with pytest.raises(UsageError, match=r"2 unreadable.*\brow 4 \(.*\brow 9 \("):
        open_source(f"hf:{tmp_path / 'broken'}")
    datasets.DatasetDict(dev=made()).save_to_disk(tmp_path / "dev")
    with pytest.raises(UsageError, match=r"split 'train'.*\bdev\b"):
        open_source(f"hf:{tmp_path / 'dev'}")
    for name in ("nobody/nothing-here", str(tmp_path / "absent.parquet")):
        with pytest.raises(UsageError, match=f"^data: hf:{name}: ") as caught:
            open_source(f"hf:{name}")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"data: .*\bhf:NAME"):
        open_source("hf:")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"data: hf:x/y .*pip install easycoreset\[hf\]"):
        open_source("hf:x/y")


def test_the_command_takes_it(cli, tmp_path):
    made().save_to_disk(tmp_path / "pets")
    ran = cli(
        "score",
        "--data",
        f"hf:{tmp_path / 'pets'}",
        "--model",
        "digits-cnn",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--out",
        tmp_path / "run",
    )
    assert ran.code == 0 and "held out" in ran.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["options"]["data"] == "hf:pets"
    done = cli(
        "evaluate",
        "--data",
        f"hf:{tmp_path / 'pets'}",
        "--weights",
        tmp_path / "run",
        "--eps",
        "0.1",
        "--attack",
        "fgsm",
        "--out",
        tmp_path / "run",
    )
    assert done.code == 0


def test_a_coreset_selects_the_same_rows(tmp_path):
    data = made(id=([f"pet-{row}" for row in range(30)], datasets.Value("string")))
    scores = Scores(
        sample_ids=data["id"][:],
        labels=np.array(data["label"][:]),
        class_names=["ant", "bee", "cat"],
        n_obs=np.ones(30, np.int32),
        columns={"aign": np.random.default_rng(0).random(30)},
    )
    coreset = choose(scores, method="easycore", fraction=0.4)
    kept = coreset.apply(data)
    assert isinstance(kept, datasets.Dataset) and kept.features == data.features
    assert kept["id"][:] == [f"pet-{row}" for row in sorted(np.argsort(scores["aign"])[:12].tolist())]
    with pytest.raises(UsageError, match=r"coreset.*\b30\b.*\b12$"):
        coreset.apply(kept)
