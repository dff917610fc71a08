"""Images of more than eight bits: white is what the file says, else by the data set's largest value."""

import io
import struct
import zlib

import datasets
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from easycoreset.data import open_source
from easycoreset.image_decoding import decode_image, find_white_value
from support.messages import named

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
VALUES = np.linspace(0, 1, 64).reshape(8, 8)
WANTED = np.round(VALUES * 255)


def deep(highest):
    return Image.fromarray(np.round(VALUES * highest).astype(np.uint16))


def save_all(root, suffix, highest):
    for label in "ab":
        (root / label).mkdir(parents=True)
        for row in range(3):
            deep(highest).save(root / label / f"{row}.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("highest", [1023, 4095, 16383, 65535])
def test_the_largest_value_tells_white(tmp_path, suffix, highest):
    save_all(tmp_path, suffix, highest)
    source = open_source(str(tmp_path), image_size=8)
    pixels = source.splits["train"].images.pixels[0, ..., 0].numpy()
    assert np.abs(pixels - WANTED).max() <= 1 and any(named(note, f": {highest} ", "largest") for note in source.notes)


def test_of_a_data_set_all_have_one_white(tmp_path):
    save_all(tmp_path, "png", 4095)
    dark = np.full((8, 8), 1000, np.uint16)
    Image.fromarray(dark).save(tmp_path / "a" / "0.png")
    source = open_source(str(tmp_path), image_size=8)
    place = [*source.splits["train"].sample_ids, *source.splits["test"].sample_ids].index("a/0.png")
    pixels = np.concatenate([split.images.pixels.numpy() for split in source.splits.values()])
    assert abs(float(pixels[place].mean()) - 1000 / 4095 * 255) < 1


def with_sbit(image, bits):
    """A PNG that says how many of its bits count."""
    held = io.BytesIO()
    image.save(held, "PNG")
    content = held.getvalue()
    chunk = b"sBIT" + bytes([bits])
    whole = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:33] + whole + content[33:]  # after the header


@pytest.mark.parametrize("bits", [10, 12])
def test_a_file_that_says_it(tmp_path, bits):
    (tmp_path / "a.png").write_bytes(with_sbit(deep(2**bits - 1), bits))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 2**bits - 1
    deep(2**bits - 1).save(tmp_path / "b.tif", tiffinfo=tags)
    for name in ("a.png", "b.tif"):
        assert find_white_value([tmp_path / name]) is None
        assert np.abs(decode_image(tmp_path / name, None)[..., 0] - WANTED).max() <= 1


def test_other_images_are_as_they_were(tmp_path):
    for name, image in (("a.png", Image.fromarray(WANTED.astype(np.uint8))), ("b.pgm", deep(4095))):
        image.save(tmp_path / name)
    assert find_white_value([tmp_path / "a.png", tmp_path / "b.pgm", tmp_path / "gone.png"]) is None
    assert np.array_equal(decode_image(tmp_path / "a.png", None, 4095)[..., 0], WANTED)


def test_of_hugging_faces_too(tmp_path):
    for row in range(6):
        deep(4095).save(tmp_path / f"{row}.png")
    files = [str(tmp_path / f"{row}.png") for row in range(6)]
    held = datasets.Dataset.from_dict({"image": files, "label": list("ababab")})
    held.cast_column("image", datasets.Image()).save_to_disk(tmp_path / "hf")
    pixels = open_source(f"hf:{tmp_path / 'hf'}").splits["train"].images.pixels[0, ..., 0].numpy()
    assert np.abs(pixels - WANTED).max() <= 1
