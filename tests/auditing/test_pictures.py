"""What is found in pictures alone: copies, leaks, and pictures that look unlike the others; no model is trained."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from easycoreset import audit
from easycoreset.auditing.duplicates import find_copies, is_copy_name
from easycoreset.auditing.picture_quality import find_quality_issues
from easycoreset.auditing.pictures import PictureFacts, look_at_pictures, measure_picture
from easycoreset.data import images, open_source
from easycoreset.data.content_hashes import hash_any_images, hash_images
from support.photo_folder import make_photo_folder

TYPES = {"hash": np.uint64, "thumbnail": np.float16, "width": np.int64, "height": np.int64}


def facts_of(pictures):
    found = [measure_picture(picture, picture.size) for picture in pictures]
    return PictureFacts(**{n: np.array([one[n] for one in found], TYPES.get(n, np.float32)) for n in found[0]})


def photo(seed, size=(48, 40)):
    """Coloured shapes on a gradient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    pixels = np.stack([rng.random() * x + rng.random() * y + rng.random() * 0.3 for _ in range(3)], 2)
    for _ in range(6):
        top, left = rng.integers(0, size[1] - 8), rng.integers(0, size[0] - 8)
        pixels[top : top + rng.integers(4, 20), left : left + rng.integers(4, 20)] = rng.random(3)
    pixels += rng.normal(0, 0.03, pixels.shape)
    return Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8))


BASE = [photo(seed) for seed in range(60)]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("dark", lambda picture: ImageEnhance.Brightness(picture).enhance(0.1)),
        ("bright", lambda picture: Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.9)),
        ("blurred", lambda picture: picture.filter(ImageFilter.GaussianBlur(4))),
        ("low information", lambda picture: Image.new("RGB", picture.size, (90, 120, 30))),
        ("odd size", lambda picture: picture.resize((12, 10))),
        ("odd size", lambda picture: picture.resize((200, 20))),
    ],
)
def test_a_picture_unlike_the_others_is_named_and_scored_highest(kind, change):
    found = find_quality_issues(facts_of([change(picture) for picture in BASE[:3]] + BASE[3:]))
    score, named = found[kind]
    assert named.tolist() == [True] * 3 + [False] * 57
    assert set(np.argsort(-score)[:3].tolist()) == {0, 1, 2} and ((score >= 0) & (score <= 1)).all()


def test_nothing_is_unusual_among_pictures_of_one_kind():
    """All blurred, all of one size: nothing is named; and of two pictures neither is like the others."""
    for pictures in ([p.filter(ImageFilter.GaussianBlur(4)) for p in BASE], BASE[:2]):
        assert not any(named.any() for _, named in find_quality_issues(facts_of(pictures)).values())


def test_the_copy_goes_and_the_original_stays():
    names = ["a/cat copy.png", "a/cat.png", "a/dog.png", "a/dog_small.jpg", "b/bird.png", "b/Copy of bird.png"]
    pictures = [BASE[0], BASE[0], BASE[1], BASE[1].resize((24, 20)), BASE[2], BASE[2], *BASE[3:]]
    names += [f"c/{number}.png" for number in range(len(pictures) - len(names))]
    digests = [picture.tobytes()[:3000] for picture in pictures]
    digests = [f"{hash(digest):x}".encode()[:16] for digest in digests]
    copies = find_copies(facts_of(pictures), digests, names, [False] * len(names))
    kept = {names[row]: names[copies.original[row]] for row in np.flatnonzero(copies.original >= 0)}
    assert kept == {"a/cat copy.png": "a/cat.png", "a/dog_small.jpg": "a/dog.png", "b/Copy of bird.png": "b/bird.png"}
    assert copies.exact[names.index("a/cat copy.png")] and not copies.exact[names.index("a/dog_small.jpg")]


def test_a_picture_of_the_test_part_stays_whatever_its_name():
    pictures = [BASE[0], BASE[0], *BASE[1:]]
    names = ["train/x.png", "test/x copy.png", *(f"train/{number}.png" for number in range(59))]
    digests = [f"{hash(picture.tobytes()):x}".encode()[:16] for picture in pictures]
    is_test = [name.startswith("test") for name in names]
    copies = find_copies(facts_of(pictures), digests, names, is_test)
    assert np.flatnonzero(copies.original >= 0).tolist() == [0] and copies.original[0] == 1


@pytest.mark.parametrize(
    "name", ["img copy", "img copy 2", "img (1)", "img - Kopie", "img_copie", "Copy of img", "img 副本"]
)
def test_names_of_copies(name):
    assert is_copy_name(name)


@pytest.mark.parametrize("name", ["photocopy", "img1", "2 cats", "(1) img", "copier", "xcopy2021"])
def test_names_that_are_no_copies(name):
    assert not is_copy_name(name)


def test_alike_pictures_are_no_copies(digits):
    """Digits of 8 x 8 pixels are all alike; among 1,438 of them are hardly any that are nearly the same."""
    split = digits.splits["train"]
    facts = look_at_pictures("digits", split)
    digests = [pixels.numpy().tobytes()[:16] for pixels in split.images.pixels]
    copies = find_copies(facts, [f"{n}".encode() for n in range(len(digests))], split.sample_ids, [False] * len(split))
    assert (copies.original >= 0).sum() <= 5


@pytest.mark.real_data
def test_the_photo_folder(tmp_path, data_root):
    """1,928 photographs of five uneven classes with copies, leaks and broken files, all of known names."""
    faults = make_photo_folder(tmp_path / "photos", open_source(f"cifar10:{data_root}"), share=0.5)
    found = audit(data=str(tmp_path / "photos"), image_size=32, epochs=1, out=tmp_path / "audit")
    source = open_source(str(tmp_path / "photos"), image_size=32, skip_unreadable=True)
    ids = {part: split.sample_ids for part, split in source.splits.items()}
    issues = found.issues.to_pylist()
    copies = [line for line in issues if line["kind"] in ("duplicate", "near duplicate", "leak")]
    pairs = {frozenset((line["sample_id"], ids[line["other_part"]][line["other_index"]])) for line in copies}
    assert all(frozenset(pair) in pairs for pair in faults.copies.items())
    near = sum(frozenset(pair) in pairs for pair in faults.near_copies.items())
    assert near >= len(faults.near_copies) - 1 and len(faults.near_copies) == 8
    leaked = {line["sample_id"] for line in issues if line["kind"] == "leak"}
    assert leaked >= set(faults.leaks) and len(faults.leaks) == 4
    removed = {line["sample_id"] for line in issues if line["kind"] == "duplicate"}
    assert removed == set(faults.copies)  # the one whose name says that it is the copy
    others = len(copies) - len(faults.copies) - near - len(faults.leaks)
    assert others <= 3  # CIFAR-10 has near copies of its own
    unreadable = [line["sample_id"] for line in issues if line["kind"] == "unreadable"]
    assert len(unreadable) == len(faults.broken) == 2 and all("broken" in line for line in unreadable)


def test_images_in_files_and_in_memory_have_the_same_hashes(png_folder, monkeypatch):
    in_memory = open_source(str(png_folder), image_size=16).splits["train"]
    monkeypatch.setattr(images, "MEMORY_LIMIT", 0)
    in_files = open_source(str(png_folder), image_size=16).splits["train"]
    assert hash_images(in_files) is None
    assert hash_any_images(in_files, 7) == hash_any_images(in_memory, 7) == hash_images(in_memory)
