"""The same commands on real CIFAR-10, CIFAR-100, Fashion-MNIST, and an image folder made of real images."""

import numpy as np
import pytest
from PIL import Image

from easycoreset import Coreset, Scores, open_source
from easycoreset.errors import EasycoresetWarning

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    ("name", "classes", "shape", "sizes"),
    [
        ("cifar10", 10, (3, 32, 32), [50_000, 10_000]),
        ("cifar100", 100, (3, 32, 32), [50_000, 10_000]),
        ("fashion-mnist", 10, (1, 28, 28), [60_000, 10_000]),
    ],
)
def test_the_published_files(data_root, name, classes, shape, sizes):
    source = open_source(f"{name}:{data_root}")  # without a warning: every md5 is the published one
    assert (len(source.class_names), source.shape, [len(s) for s in source.splits.values()]) == (classes, shape, sizes)
    assert (np.bincount(source.splits["train"].labels) == sizes[0] // classes).all()
    batch = next(source.splits["train"].batches(np.arange(5000), 5000))
    np.testing.assert_allclose(batch.x.mean((0, 2, 3)), source.mean, atol=0.02)
    np.testing.assert_allclose(batch.x.std((0, 2, 3)), source.std, atol=0.02)


def test_mnist_is_read_by_the_same_reader(tmp_path, data_root):
    """Fashion-MNIST's published files, in MNIST's place."""
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(data_root / "FashionMNIST" / "raw")
    mnist = open_source(f"mnist:{tmp_path}")
    fashion = open_source(f"fashion-mnist:{data_root}")
    assert mnist.augmentation == "none" and list(mnist.class_names) == list("0123456789")
    assert [len(s) for s in mnist.splits.values()] == [60_000, 10_000]
    for name, split in mnist.splits.items():
        assert split.fingerprint == fashion.splits[name].fingerprint


def check_main_job(cli, tmp_path, data, rows, kept, *more, epochs=2):
    """score on a random part -> select -> train -> evaluate, by the command line."""
    split = open_source(data, image_size=24 if more else None).splits["train"]
    empty = Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=["?"] * 10,
        n_obs=np.ones(rows, np.int32),
        columns={},
        provenance={"fingerprint": split.fingerprint, "split": "train"},
    )
    part = np.random.default_rng(0).permutation(rows)[: min(rows, 2560)]
    Coreset.from_order(part, empty).write(tmp_path / "part.parquet")
    data_options = ("--data", data, "--model", "thin-resnet", "--quiet", "--json", *more)
    ran = cli(
        "score", *data_options, "--epochs", epochs, "--coreset", tmp_path / "part.parquet", "--out", tmp_path / "s"
    )
    assert ran.code == 0, ran.err
    scores = Scores.read(tmp_path / "s" / "scores.parquet")
    assert len(scores) == rows
    for name, values in scores.columns.items():
        assert np.isfinite(values).all() or (name, epochs) == ("uncertainty", 1), name  # of one epoch there is none
    ran = cli(
        "select",
        "--scores",
        tmp_path / "s" / "scores.parquet",
        "--fraction",
        kept,
        "--out",
        tmp_path / "c.parquet",
        "--per-class",
        "--json",
    )
    assert ran.code == 0 and ran.json["kept"] == round(rows * kept)
    ran = cli("train", *data_options, "--coreset", tmp_path / "c.parquet", "--updates", 20, "--out", tmp_path / "t")
    assert ran.code == 0, ran.err
    ran = cli(
        "evaluate",
        "--data",
        data,
        "--weights",
        tmp_path / "t",
        "--limit",
        60,
        "--attack",
        "pgd:steps=3",
        "--eps",
        "1/255,8/255",
        "--out",
        tmp_path / "t",
        "--quiet",
        "--json",
        *more,
    )
    assert ran.code == 0, ran.err
    first, last = (line["accuracy"] for line in ran.json["summary"]["attacked"])
    assert first >= last and ran.json["summary"]["samples"] == 60


@pytest.mark.slow
def test_cifar10(cli, tmp_path, data_root):
    check_main_job(cli, tmp_path, f"cifar10:{data_root}", 50_000, 0.05, epochs=1)


@pytest.mark.slow
def test_fashion_mnist(cli, tmp_path, data_root):
    check_main_job(cli, tmp_path, f"fashion-mnist:{data_root}", 60_000, 0.05, epochs=1)


@pytest.mark.slow
def test_an_image_folder_of_real_images(cli, tmp_path, data_root):
    source = open_source(f"cifar10:{data_root}")
    split = source.splits["train"]
    for label, name in enumerate(source.class_names):
        (tmp_path / "images" / name).mkdir(parents=True)
        for row in np.flatnonzero(split.labels == label)[:50]:
            Image.fromarray(split.images.pixels[row].numpy()).save(tmp_path / "images" / name / f"{row}.png")
    check_main_job(cli, tmp_path, str(tmp_path / "images"), 400, 0.5, "--image-size", "24")


def test_a_changed_file_is_read_with_a_warning(tmp_path, data_root):
    import shutil

    shutil.copytree(data_root / "cifar-10-batches-py", tmp_path / "cifar-10-batches-py")
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    content = bytearray(file.read_bytes())
    content[2_000_000] ^= 1  # one bit of one pixel
    file.write_bytes(content)
    with pytest.warns(EasycoresetWarning, match=r"\btest_batch\b"):
        changed = open_source(f"cifar10:{tmp_path}")
    original = open_source(f"cifar10:{data_root}")
    assert changed.splits["train"].fingerprint == original.splits["train"].fingerprint
    assert changed.splits["test"].fingerprint != original.splits["test"].fingerprint
