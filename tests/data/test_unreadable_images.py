"""Images that cannot be read, are of odd kinds, or are very large; classes that are small."""

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from easycoreset import RunError, UsageError, image_decoding, open_source
from easycoreset.data import image_files, images
from easycoreset.errors import EasycoresetWarning
from easycoreset.image_decoding import decode_image
from support.messages import FEW_SAMPLES, named
from support.sources import check_source


def spoil(folder, count):
    """Break some of the files, each in another way."""
    files = sorted(folder.rglob("*.png"))[: 12 * 3 : 12 // count]
    ways = [b"", b"no image", files[0].read_bytes()[:60]]
    for place, file in enumerate(files):
        file.write_bytes(ways[place % 3])
    return files


@pytest.fixture
def spoilt(png_folder):
    """Three unreadable images in classes of 15."""
    for file in sorted(png_folder.rglob("*.png"))[::4]:
        shutil.copy(file, file.with_name(f"more{file.name}"))
    return spoil(png_folder, 1)


@pytest.mark.parametrize("limit", [2**30, 0])
def test_unreadable_images_are_left_out_and_named(png_folder, spoilt, monkeypatch, limit):
    monkeypatch.setattr(images, "MEMORY_LIMIT", limit)
    monkeypatch.setattr(image_files, "MAX_FULL_CHECK", 0)  # they are decoded all the same
    with pytest.raises(UsageError, match=r"3 unreadable.*\(--skip-unreadable") as caught:
        monkeypatch.setattr(image_files, "MAX_FULL_CHECK", 50_000)
        open_source(str(png_folder), image_size=8)
    assert all(str(file) in str(caught.value) for file in spoilt)
    monkeypatch.setattr(image_files, "MAX_FULL_CHECK", 0)
    source = open_source(str(png_folder), image_size=8, num_workers=0, skip_unreadable=True)
    check_source(source)
    assert sum(map(len, source.splits.values())) == 45 - 3 and len(source.unreadable) == 3
    assert all(any(name.startswith(f"{file} (") for name in source.unreadable) for file in spoilt)
    assert any(note.startswith("3 unreadable") for note in source.notes)
    for file in spoilt:
        file.unlink()
    clean = open_source(str(png_folder), image_size=8, num_workers=0)
    kept = [name for split in source.splits.values() for name in split.sample_ids]
    assert sorted(kept) == sorted(name for split in clean.splits.values() for name in split.sample_ids)


def test_a_manifest_leaves_them_out_too(png_folder, spoilt):
    data = png_folder.parent / "list.csv"
    files = sorted(png_folder.rglob("*.png"))
    rows = [f"images/{file.relative_to(png_folder)},{file.parent.name}" for file in files]
    data.write_text("\n".join(["filepath,label", *rows]))
    with pytest.raises(UsageError, match="3 unreadable images"):
        open_source(str(data))
    source = open_source(str(data), image_size=8, skip_unreadable=True)
    assert len(source.unreadable) == 3 and sum(map(len, source.splits.values())) == 42


def test_too_many_unreadable_images_are_an_error(png_folder):
    files = sorted(png_folder.rglob("*.png"))
    for file in files[:19]:
        file.write_bytes(b"")
    with pytest.raises(UsageError, match=r"skip_unreadable.*\b19 of 36\b"):
        open_source(str(png_folder), skip_unreadable=True)
    for file in files[12:19]:
        Image.new("L", (9, 9)).save(file)
    with pytest.raises(UsageError, match=r"skip_unreadable.*\bclass 0\b"):
        open_source(str(png_folder), skip_unreadable=True)


def test_it_changes_the_data_of_a_run(cli, png_folder, spoilt, tmp_path):
    line = (
        "train",
        "--data",
        png_folder,
        "--model",
        "thin-resnet",
        "--image-size",
        8,
        "--epochs",
        1,
        "--out",
        tmp_path / "t",
    )
    ran = cli(*line)
    assert ran.code == 2 and "3 unreadable" in ran.err and ran.err.count("\n") == 1
    ran = cli(*line, "--skip-unreadable")
    assert ran.code == 0 and "3 unreadable" in ran.err
    ran = cli(
        "evaluate",
        "--weights",
        tmp_path / "t",
        "--data",
        png_folder,
        "--skip-unreadable",
        "--attack",
        "fgsm",
        "--eps",
        "2/255",
        "--limit",
        4,
        "--out",
        tmp_path / "e",
    )
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())["unreadable"]
    assert ran.code == 0 and len(told) == 3 and "class 1/" in str(told)
    for file in spoilt:
        file.unlink()
    ran = cli(*line)
    assert ran.code == 2 and named(ran.err, "skip_unreadable=True", "False")
    record = json.loads((tmp_path / "t" / "run.json").read_text())
    assert len(record["summary"]["unreadable"]) == 3 and "class 1/" in str(record["summary"]["unreadable"])


def test_a_class_with_few_samples_is_said_once(png_folder):
    for file in sorted((png_folder / "class 1").iterdir())[3:]:
        file.unlink()
    (png_folder / "class 2").rename(png_folder / "class\n2")
    for file in sorted((png_folder / "class\n2").iterdir())[5:]:
        file.unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_source(str(png_folder), image_size=8)
    assert len(caught) == 1 and caught[0].category is EasycoresetWarning
    said = str(caught[0].message)
    assert named(said, "images: ", "10", r"'class\n2' (4), class 1 (2)") and said.endswith(" (2)")


@pytest.mark.filterwarnings(FEW_SAMPLES)
def test_animations_palettes_and_transparency(tmp_path):
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in range(3)]
    for place, suffix in enumerate(("gif", "webp", "png")):
        (tmp_path / "modes" / str(place % 2)).mkdir(parents=True, exist_ok=True)
        more = {"lossless": True} if suffix == "webp" else {}
        file = tmp_path / "modes" / str(place % 2) / f"moves.{suffix}"
        frames[0].save(file, save_all=True, append_images=frames[1:], **more)
        if suffix != "gif":
            np.testing.assert_array_equal(decode_image(file, None), np.array(frames[0]))
    palette = frames[0].quantize(8)
    palette.save(tmp_path / "modes" / "0" / "see-through.png", transparency=bytes(range(8)))
    grey = np.array([[10, 200], [30, 40]], np.uint8)
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(grey.T)]).save(
        tmp_path / "modes" / "1" / "grey-alpha.png"
    )
    white = grey * (grey.T / 255) + 255 - grey.T  # what is transparent is white
    found = decode_image(tmp_path / "modes" / "1" / "grey-alpha.png", None)[..., 1]
    np.testing.assert_allclose(found, white, atol=1)
    shown = decode_image(tmp_path / "modes" / "0" / "see-through.png", None)
    alpha = np.asarray(palette)[..., None] / 255  # of colour k it is k
    np.testing.assert_allclose(shown, np.array(palette.convert("RGB")) * alpha + 255 * (1 - alpha), atol=1)
    check_source(open_source(str(tmp_path / "modes"), image_size=8))


@pytest.fixture
def wide(tmp_path):
    """A ramp from left to right of 20,000 x 5,000 pixels: 100 million, above Pillow's limit."""
    row = np.linspace(0, 255, 20_000).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(row, (5_000, 20_000)))
    return tmp_path, image


def test_very_large_images_are_read_without_a_word(wide):
    folder, image = wide
    expected = np.linspace(255 * 3 / 8, 255 * 5 / 8, 33)[:-1] + 255 / 8 / 32  # the middle of 4:1, cropped
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(folder / "wide.jpg", quality=90)
    image.save(folder / "turned.jpg", quality=90, exif=exif)
    image.save(folder / "wide.png", compress_level=1)
    image.convert("P").save(folder / "palette.png", compress_level=1)
    for name in ("wide.jpg", "wide.png", "palette.png"):
        found = decode_image(folder / name, 32)
        np.testing.assert_allclose(found[5, :, 0], expected, atol=3)
    np.testing.assert_allclose(decode_image(folder / "turned.jpg", 32)[5, ::-1, 0], expected, atol=3)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_what_is_too_large_is_named_and_can_be_left_out(wide, png_folder, monkeypatch):
    _, image = wide
    monkeypatch.setattr(image_decoding, "MAX_BYTES", 10**7)
    image.save(png_folder / "class 0" / "wide.jpg")  # decoded at an eighth
    image.resize((8000, 4000)).save(png_folder / "class 0" / "wide.png", compress_level=1)
    with pytest.raises(UsageError, match=r"1 unreadable.*wide\.png \(8000 x 4000\b.*\b10 MB\b"):
        open_source(str(png_folder), image_size=8)
    assert len(open_source(str(png_folder), image_size=8, skip_unreadable=True).unreadable) == 1


def test_large_images_of_every_mode(tmp_path, monkeypatch):
    ramp = np.linspace(0, 255, 80 * 80).astype(np.uint8).reshape(80, 80)
    plain = Image.fromarray(ramp)
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    modes = {
        "l.png": plain,
        "rgb.png": plain.convert("RGB"),
        "cmyk.tif": plain.convert("CMYK"),
        "one.png": plain.convert("1"),
        "deep.png": deep,
        "float.tif": Image.fromarray((ramp / 255).astype(np.float32)),
        "p.png": plain.convert("P"),
        "rgba.png": plain.convert("RGBA"),
        "la.png": plain.convert("LA"),
    }
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image in modes.items():
        image.save(tmp_path / name)
    plain.save(tmp_path / "turned.tif", exif=exif)
    before = {file: (decode_image(file, 8), decode_image(file, None)) for file in tmp_path.iterdir()}
    monkeypatch.setattr(image_decoding, "LARGE_PIXELS", 100)
    monkeypatch.setattr(image_decoding, "STRIP_PIXELS", 700)
    for file, (expected, whole) in before.items():
        assert np.array_equal(decode_image(file, None), whole), file.name
        np.testing.assert_allclose(
            decode_image(file, 8).astype(int), expected, atol=2 if file.name != "one.png" else 20
        )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_image_is_turned_as_its_exif_says(tmp_path, monkeypatch, orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    expected = decode_image(tmp_path / "a.png", None)
    monkeypatch.setattr(image_decoding, "LARGE_PIXELS", 100)
    assert np.array_equal(decode_image(tmp_path / "a.png", None), expected)


MEASURE = """
import sys
from pathlib import Path
from easycoreset.image_decoding import decode_image
def peak(): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM:")) / 1024
before = peak()
for file in sys.argv[1:]:
    for size in (32, None):
        try: decode_image(Path(file), size)
        except ValueError as error: assert " MB " in str(error), error
print(peak() - before)
"""


@pytest.mark.slow
def test_no_image_takes_more_than_a_gibibyte(tmp_path):
    """Strips, alpha, 16 and 32 bits, palettes, progressive JPEG: what is beyond the bound is refused, unread."""
    images = {
        "strip.png": Image.new("RGBA", (16, 16_700_000), (9, 9, 9, 90)),
        "deep.png": Image.new("I;16", (16, 16_700_000), 999),
        "square.png": Image.new("RGBA", (11_500, 11_500), (9, 9, 9, 90)),
        "grey.png": Image.new("LA", (9_800, 9_800), (9, 90)),
        "deep square.png": Image.new("I;16", (16_300, 16_300), 999),
        "middle deep.tif": Image.new("F", (4_000, 4_100), 0.5),
        "large.webp": Image.new("RGBA", (8_000, 8_000), (9, 9, 9, 90)),
        "progressive.jpg": Image.new("RGB", (9_000, 9_000)),
    }
    for name, image in images.items():
        more = {"compress_level": 1} if name.endswith("png") else {"progressive": True} if name.endswith("jpg") else {}
        image.save(tmp_path / name, **more)
    files = sorted(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1024


def test_no_other_program_is_started_for_an_image(tmp_path, monkeypatch):
    """Pillow gives EPS to Ghostscript, whatever the file is called."""
    called = tmp_path / "called"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {called}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    file = tmp_path / "cat.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    for size in (8, None):
        with pytest.raises(UnidentifiedImageError):
            decode_image(file, size)
    assert not called.exists()


def test_names_are_on_one_line(png_folder):
    (png_folder / "class 0" / "two\nlines.png").write_bytes(b"")
    with pytest.raises(UsageError, match="1 unreadable image") as caught:
        open_source(str(png_folder))
    assert "\n" not in str(caught.value) and r"two\nlines.png" in str(caught.value)


def test_an_image_that_breaks_later_is_named_on_one_line(png_folder, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    source = open_source(str(png_folder), image_size=8, num_workers=0, skip_unreadable=True)
    source.splits["train"].images.paths[0].write_bytes(b"")
    with pytest.raises(RunError, match="unreadable image"):
        list(source.splits["train"].batches(np.arange(10), 10))


@pytest.mark.parametrize("form", ["jpg", "png", "gif", "bmp", "webp", "tif", "ppm"])
def test_in_a_very_large_folder_the_beginning_must_do(png_folder, monkeypatch, form):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(image_files, "MAX_FULL_CHECK", 0)
    for file in png_folder.rglob("*.png"):
        with Image.open(file) as image:
            image.convert("RGB").save(file.with_suffix(f".{form}"))
        if form != "png":
            file.unlink()
    own = sorted(png_folder.rglob(f"*.{form}"))
    assert image_decoding.has_image_signature(own[0]) == (form != "ppm")  # which is then opened as one
    assert len(open_source(str(png_folder), image_size=8, num_workers=0).splits["train"]) > 20
    own[3].write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match="1 unreadable image: .*--skip-unreadable"):
        open_source(str(png_folder), image_size=8)


def test_a_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, digits):
    """Never below twice the side that is wanted, so that next to nothing changes."""
    pixels = digits.splits["train"].images.pixels[7, :, :, 0].numpy()
    whole = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).convert("RGB")
    whole.save(tmp_path / "a.jpg", quality=95)
    whole.save(tmp_path / "a.png")
    for size in (16, 64, 200, 300):
        photo, exact = (decode_image(tmp_path / name, size).astype(int) for name in ("a.jpg", "a.png"))
        assert photo.shape == (size, size, 3) and np.abs(photo - exact).mean() < 2 and np.abs(photo - exact).max() < 25
    assert decode_image(tmp_path / "a.jpg", None).shape == (480, 640, 3)
