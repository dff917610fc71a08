"""Data sets: stable indices, ids, labels and fingerprints, batches in [0,1], and every bad input named."""

import gzip
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from easycoreset import RunError, UsageError, open_source
from easycoreset.data import cached_sources, images
from easycoreset.data.augment import augment
from easycoreset.data.keyed_random import keyed_normal, keyed_uniform, make_generator
from easycoreset.data_specs import DATA, data_name, data_paths, is_local
from easycoreset.errors import EasycoresetWarning
from easycoreset.tables.holdout import hold_out
from support.messages import FEW_SAMPLES
from support.sources import check_source, write_cifar


@pytest.mark.parametrize("name", [name for name, kind in DATA.items() if not kind.location])
def test_every_bundled_data_set(name):
    check_source(open_source(name))
    assert is_local(name) and data_paths(name) == [] and data_name(name) == name


@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name, kind in DATA.items() if kind.location == "DIR" and name != "mnist"])
def test_every_data_set_in_a_folder(name, data_root):
    data = f"{name}:{data_root}"
    source = open_source(data)
    check_source(source)
    assert is_local(data) and data_paths(data) == [data_root / DATA[name].folder] and data_name(data) == name
    with pytest.raises(UsageError, match=rf"^data: {name} needs its folder.*{name}:DIR"):
        open_source(name)
    with pytest.raises(UsageError, match=r"^classes\b.*'2'"):
        open_source(data, classes="2")


def test_digits(digits):
    assert [len(s) for s in digits.splits.values()] == [1438, 359]
    assert (np.bincount(digits.splits["test"].labels) >= 34).all()
    assert open_source("digits").splits["train"].fingerprint == digits.splits["train"].fingerprint
    with pytest.raises(UsageError, match="digits.*'somewhere'"):
        open_source("digits:somewhere")


def test_hold_out_is_stratified_and_stable():
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2 + [3])
    train, test = hold_out(labels)
    assert np.bincount(labels[test], minlength=4).tolist() == [2, 1, 1, 0]
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(18))
    assert np.array_equal(test, hold_out(labels)[1])


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


X8 = (np.arange(40 * 6 * 6) % 251).astype(np.uint8).reshape(40, 6, 6)
Y = np.arange(40) % 4


def test_npz(tmp_path):
    source = open_source(save(tmp_path / "a.npz", x=X8, y=Y))
    check_source(source)
    assert source.shape == (1, 6, 6) and [len(s) for s in source.splits.values()] == [32, 8]
    assert "held out" in source.notes[0] and source.splits["test"].sample_ids[0].startswith("x/")
    colour = np.random.default_rng(0).random((40, 6, 6, 3)).astype(np.float64)
    source = open_source(save(tmp_path / "b.npz", x=colour, y=Y.astype(np.uint8), x_test=colour[:12], y_test=Y[:12]))
    check_source(source)
    assert source.shape == (3, 6, 6) and len(source.splits["train"]) == 40
    assert list(open_source(save(tmp_path / "c.npz", x=X8, y=Y * 2)).class_names) == ["0", "2", "4", "6"]
    changed = X8.copy()
    changed[0, 0, 0] += 1
    assert (
        len({open_source(save(tmp_path / "d.npz", x=x, y=Y)).splits["train"].fingerprint for x in (X8, changed)}) == 2
    )


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"y": Y}, r"arrays 'x' and 'y'.* y$"),
        ({"x": X8}, r"arrays 'x' and 'y'.* x$"),
        ({"x": X8, "y": Y[:30]}, r"\bx\b.*\by\b.*\b40\b.*\b30$"),
        ({"x": X8, "y": Y + 0.5}, r"labels.*\b0\.5\b.*\brow 0$"),
        ({"x": X8, "y": Y - 1}, "label.* -1$"),
        ({"x": X8, "y": Y * 0}, r"bad\.npz: .*\bclasses\b"),
        ({"x": X8.astype(np.int32), "y": Y}, r"\bx\b.*\bint32$"),
        ({"x": X8.astype(float), "y": Y}, r"\bx\b.*\[0, 1\].*\b40 rows\b.*\b0\).*255"),
        ({"x": np.where(X8 == 3, np.nan, 0.5), "y": Y}, r"\bx\b.*\bfinite\b"),
        ({"x": X8[:, 0], "y": Y}, r"\bx\b.*\[N,H,W\]"),
        ({"x": np.array([{}] * 40, dtype=object), "y": Y}, r"bad\.npz.*\|O\b"),
        ({"x": X8, "y": Y, "x_test": X8}, "array 'y_test'"),
        ({"x": X8, "y": Y, "x_test": X8[:, :5], "y_test": Y}, r"\bshape\b.*\(5, 6, 1\), \(6, 6, 1\)"),
        ({"x": X8, "y": Y, "x_test": X8, "y_test": Y + 1}, r"bad\.npz: .*\bclasses\b.* 4$"),
        ({"x": X8[:0], "y": Y[:0]}, r"\bx\b.*\bempty$"),
    ],
)
def test_npz_bad_input(tmp_path, arrays, match):
    with pytest.raises(UsageError, match=match):
        open_source(save(tmp_path / "bad.npz", **arrays))


def test_foreign_truncated_and_missing_files(tmp_path):
    path = tmp_path / "a.npz"
    save(path, x=X8, y=Y)
    path.write_bytes(path.read_bytes()[:500])
    text = tmp_path / "text.npz"
    text.write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for bad in (path, text, tmp_path / "empty.npz"):
        with pytest.raises(UsageError, match=f"{bad.name}.*\\.npz file"):
            open_source(str(bad))
    for bad, match in [
        (tmp_path / "no.npz", r"no\.npz"),
        ("digit", "'digit'.*'digits'"),
        ("cifar10", "cifar10:DIR"),
        ("cifra10:x", "'cifra10'.*'cifar10'"),
        (tmp_path / "nothing" / "here", "nothing/here'"),
        (__file__, r"test_data\.py'"),
    ]:
        with pytest.raises(UsageError, match=match):
            open_source(str(bad))


def test_folder_in_memory_and_by_workers_are_the_same(png_folder, monkeypatch):
    source = open_source(str(png_folder), image_size=16)
    check_source(source)
    assert source.shape == (3, 16, 16) and list(source.class_names) == ["class 0", "class 1", "class 2"]
    assert [len(s) for s in source.splits.values()] == [30, 6] and "held out" in source.notes[1]
    assert source.splits["train"].sample_ids[0].startswith("class 0/")
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    lazy = open_source(str(png_folder), image_size=16, num_workers=2)
    check_source(lazy)
    order = np.arange(30)[::-1].copy()
    for a, b in zip(source.splits["train"].batches(order, 7), lazy.splits["train"].batches(order, 7), strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.index, b.index)
    assert lazy.splits["train"].fingerprint == source.splits["train"].fingerprint
    copied = shutil.copytree(png_folder, png_folder.parent / "copied")
    assert open_source(str(copied)).splits["train"].fingerprint == source.splits["train"].fingerprint


@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_a_job_opens_its_data_once(png_folder):
    with cached_sources():
        first = open_source(str(png_folder), image_size=8)
        next(png_folder.rglob("*.png")).unlink()
        with cached_sources():
            assert open_source(str(png_folder), image_size=8) is first
        assert open_source(str(png_folder), image_size=8) is first
        assert open_source(str(png_folder), image_size=16) is not first  # other options are another data set
    after = open_source(str(png_folder), image_size=8)
    assert len(after.splits["train"]) + len(after.splits["test"]) + 1 == sum(map(len, first.splits.values()))


@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_what_is_no_image_is_passed_over_and_said(png_folder):
    before = open_source(str(png_folder), image_size=8)
    own = png_folder / "class 0"
    picture = next(own.glob("*.png"))
    (own / "notes.txt").write_text("x")
    (own / "photo.heic").write_bytes(b"x")
    (own / "._0.png").write_bytes(b"x")  # as macOS leaves them
    (own / "Thumbs.db").write_bytes(b"x")
    (own / ".checkpoints").mkdir()
    shutil.copy(picture, own / ".checkpoints" / "0-copy.png")
    (png_folder / "__MACOSX").mkdir()
    (own / "linked").symlink_to(png_folder / "class 1")
    after = open_source(str(png_folder), image_size=8)
    assert [s.fingerprint for s in after.splits.values()] == [s.fingerprint for s in before.splits.values()]
    (note,) = [note for note in after.notes if "passed over" in note]
    assert all(said in note for said in ("1 .txt", "1 .heic", "1 linked folders")) and "db" not in note
    (own / "gone.png").symlink_to(own / "nowhere.png")
    with pytest.raises(UsageError, match=r"1 unreadable.*gone\.png"):
        open_source(str(png_folder), image_size=8)


def test_folder_with_a_test_part(png_folder, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(png_folder, tmp_path / "whole" / part)
    source = open_source(str(tmp_path / "whole"), image_size=8)
    assert [len(s) for s in source.splits.values()] == [36, 36]
    assert source.splits["test"].sample_ids[0].startswith("val/class 0/")
    (tmp_path / "whole" / "val" / "class 9").mkdir()
    with pytest.raises(UsageError, match=r"val: .*\btrain/.*: class 9$"):
        open_source(str(tmp_path / "whole"))


@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_images_of_any_mode_and_turned_ones(tmp_path):
    for k, mode in enumerate(["L", "P", "RGBA", "CMYK", "1", "I;16", "RGB", "LA"]):
        place = tmp_path / "modes" / str(k % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (30, 20)).save(place / (f"{k}.tif" if mode == "CMYK" else f"{k}.png"))
    wide = Image.new("RGB", (30, 10))
    wide.paste((255, 0, 0), (0, 0, 15, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: what is left in the file is up on the screen
    wide.save(tmp_path / "modes" / "0" / "turned.jpg", exif=exif)
    check_source(open_source(str(tmp_path / "modes"), image_size=8))
    turned = images.decode_image(tmp_path / "modes" / "0" / "turned.jpg", 8)
    assert turned.shape == (8, 8, 3) and turned[0, 4, 0] > 200 and turned[-1, 4, 0] < 50


def test_images_of_16_bits_and_floats_are_scaled(tmp_path):
    ramp = np.linspace(0, 60_000, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_allclose(images.decode_image(tmp_path / "deep.png", 8)[..., 0], ramp / 257, atol=0.51)
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "float.tiff")
    np.testing.assert_allclose(images.decode_image(tmp_path / "float.tiff", 8)[..., 0], ramp / 257, atol=0.51)


def test_truncated_jpegs_are_found_beforehand(png_folder, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    file = png_folder / "class 0" / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UsageError, match=f"1 unreadable image: {file}"):
        open_source(str(png_folder))


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "validation"), ("TRAIN", "valid")])
def test_parts_by_their_usual_names(png_folder, tmp_path, train, test):
    for part in (train, test):
        shutil.copytree(png_folder, tmp_path / "whole" / part)
    shutil.rmtree(tmp_path / "whole" / test / "class 2")  # a test split may lack a class
    source = open_source(str(tmp_path / "whole"), image_size=8)
    assert list(source.class_names) == ["class 0", "class 1", "class 2"]
    assert [len(s) for s in source.splits.values()] == [36, 24] and not any("held out" in note for note in source.notes)


def test_a_file_name_that_is_not_utf8_is_named(png_folder):
    shutil.copy(next(png_folder.rglob("*.png")), os.fsencode(png_folder) + b"/class 0/\xff.png")
    with pytest.raises(UsageError, match="not UTF-8"):
        open_source(str(png_folder))


def test_image_size_is_for_folders(tmp_path):
    for data in ("digits", save(tmp_path / "a.npz", x=X8, y=Y)):
        with pytest.raises(UsageError, match=r"image_size.*\b32\b.*data '"):
            open_source(data, image_size=32)
    with pytest.raises(UsageError, match="data.*''"):
        open_source("")


def test_unreadable_images_are_all_named_at_once(png_folder, monkeypatch):
    broken = sorted(png_folder.rglob("*.png"))[:3]
    broken[0].write_bytes(b"")
    broken[1].write_bytes(broken[1].read_bytes()[:40])
    broken[2].write_text("no image")
    for limit in (2**30, 0):
        monkeypatch.setattr(images, "MEMORY_LIMIT", limit)
        with pytest.raises(UsageError) as caught:
            open_source(str(png_folder))
        assert "3 unreadable images" in str(caught.value) and all(str(path) in str(caught.value) for path in broken)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_later_is_named(png_folder, monkeypatch, workers):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    source = open_source(str(png_folder), image_size=8, num_workers=workers)
    path = source.splits["train"].images.paths[3]
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(RunError, match=f"unreadable image: {path}"):
        list(source.splits["train"].batches(np.arange(30), 10))


def test_folder_bad_input(tmp_path, png_folder):
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"none: .*\bclass folders\b"):
        open_source(str(tmp_path / "none"))
    (png_folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"/empty: .*\bimages\b"):
        open_source(str(png_folder))
    shutil.rmtree(png_folder / "empty")
    for k in (1, 2):
        shutil.rmtree(png_folder / f"class {k}")
    with pytest.raises(UsageError, match=r"data: .*\bclasses\b"):
        open_source(str(png_folder))


def test_cifar_with_another_md5_is_read_with_a_warning(tmp_path):
    with pytest.warns(EasycoresetWarning, match="published"):
        source = open_source(write_cifar(tmp_path))
    check_source(source)
    assert source.shape == (3, 32, 32) and len(source.splits["train"]) == 100


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_cifar_never_runs_code_from_a_pickle(tmp_path, capsys):
    data = write_cifar(tmp_path, lambda f: (f / "data_batch_2").write_bytes(pickle.dumps({b"data": Evil()})))
    with pytest.raises(UsageError, match=r"data_batch_2.*builtins\.print'"):
        open_source(data)
    assert "must never run" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda f: (f / "test_batch").unlink(), r"test_batch \(--download"),
        (lambda f: (f / "test_batch").write_bytes(b"\x80"), r"test_batch: .*\bCIFAR file\b"),
        (
            lambda f: (f / "test_batch").write_bytes(pickle.dumps({b"data": np.zeros((2, 5), np.uint8)})),
            r"data: .*\bCIFAR batch\b",
        ),
        (lambda f: (f / "batches.meta").write_bytes(pickle.dumps([1])), r"batches\.meta: .*\bCIFAR file\b"),
        (lambda f: (f / "batches.meta").write_bytes(pickle.dumps({})), r"data: .*\bclass names\b.*\bmeta\b"),
    ],
)
def test_cifar_bad_input(tmp_path, spoil, match):
    with pytest.raises(UsageError, match=match):
        open_source(write_cifar(tmp_path, spoil))


@pytest.mark.parametrize(("name", "kind"), [("fashion-mnist", "FashionMNIST"), ("mnist", "MNIST")])
def test_mnist_layout(tmp_path, name, kind):
    raw = tmp_path / kind / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        (raw / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
        labels = bytes([0, 0, 8, 1]) + (40).to_bytes(4, "big") + bytes(np.arange(40, dtype=np.uint8) % 10)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    check_source(source := open_source(f"{name}:{tmp_path}"))
    assert source.augmentation == ("none" if name == "mnist" else "crop-flip") and len(source.class_names) == 10
    images_file = raw / "t10k-images-idx3-ubyte.gz"
    for content, match in [
        (images_file.read_bytes()[:200], r"t10k-images-idx3-ubyte\.gz"),
        (gzip.compress(head + pixels.tobytes()[:-1]), r"t10k-images-idx3-ubyte.*\btruncated\b"),
        (gzip.compress(b"abc"), r"t10k-images-idx3-ubyte.*\bIDX\b"),
    ]:
        images_file.write_bytes(content)
        with pytest.raises(UsageError, match=match):
            open_source(f"{name}:{tmp_path}")
    images_file.unlink()
    with pytest.raises(UsageError, match=f"{images_file.name}.*--download"):
        open_source(f"{name}:{tmp_path}")


def test_crop_and_flip_are_those_of_a_plain_loop():
    x = torch.randint(0, 256, (50, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = augment(x, "crop-flip", make_generator(0))
    draws = make_generator(0)
    flips = torch.rand(50, generator=draws) < 0.5
    shifts = torch.randint(9, (2, 50, 1), generator=draws)[..., 0]
    for i in range(50):
        padded = torch.zeros(17, 17, 3, dtype=torch.uint8)
        padded[4:13, 4:13] = x[i]
        crop = padded[shifts[0, i] : shifts[0, i] + 9, shifts[1, i] : shifts[1, i] + 9]
        assert torch.equal(found[i], crop.flip(1) if flips[i] else crop)
    assert len({tuple(s) for s in shifts.T.tolist()}) > 20 and 10 < flips.sum() < 40  # a fresh draw for every image
    flipped = augment(x, "flip", make_generator(1))
    assert all(torch.equal(f, o) or torch.equal(f, o.flip(1)) for f, o in zip(flipped, x, strict=True))
    assert augment(x, "none", make_generator(0)) is x


def test_keyed_draws_depend_on_the_key_alone():
    index = torch.tensor([3, 900_000, 7])
    whole = keyed_uniform(index, (2, 3), 0, "a")
    assert torch.equal(keyed_uniform(index[1:2], (2, 3), 0, "a")[0], whole[1])
    assert not torch.equal(keyed_uniform(index, (2, 3), 1, "a"), whole)
    many = keyed_uniform(torch.arange(2000), (50,), 0)
    assert many.min() >= 0 and many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=0.005) and many.std() == pytest.approx(12**-0.5, abs=0.005)
    assert many.mean(0).std() < 0.01 and many.mean(1).std() == pytest.approx((12 * 50) ** -0.5, rel=0.1)
    normal = keyed_normal(torch.arange(2000), (50,), 0)
    assert normal.mean() == pytest.approx(0, abs=0.02) and normal.std() == pytest.approx(1, abs=0.02)
