"""Training and test splits by the words that people use, and folders of which it is not clear what they are."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from easycoreset.data import open_source
from easycoreset.errors import UsageError
from support.messages import named

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")


def draw(folder, count=4, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for row in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{row}.png")


def tree(root, *folders):
    for place, folder in enumerate(folders):
        draw(root / folder, seed=place)
    return str(root)


PAIRS = [
    ("train", "test"),
    ("training_set", "test_set"),
    ("seg_train", "seg_test"),
    ("train_images", "test_images"),
    ("Training", "Testing"),
    ("TRAIN", "VAL"),
    ("train", "eval"),
    ("train", "dev"),
    ("train", "Validation"),
    ("trainset", "testset"),
    ("train", "test_set"),
    ("Train Data", "Test Data"),
    ("train", "holdout"),
]


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_the_usual_words_in_folders(tmp_path, train, test):
    data = tree(tmp_path / "d", f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog")
    source = open_source(data)
    assert list(source.class_names) == ["cat", "dog"] and [len(split) for split in source.splits.values()] == [8, 8]
    assert all(name.startswith(f"{test}/") for name in source.splits["test"].sample_ids)


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_the_usual_words_in_manifests(tmp_path, train, test):
    draw(tmp_path / "p", 12)
    rows = [f"p/{row}.png,{'cat' if row % 2 else 'dog'},{test if row > 7 else train}" for row in range(12)]
    (tmp_path / "m.csv").write_text("\n".join(["filepath,label,split", *rows]))
    assert [len(split) for split in open_source(str(tmp_path / "m.csv")).splits.values()] == [8, 4]


def test_what_is_not_used_is_said(tmp_path):
    source = open_source(tree(tmp_path / "d", "train/a", "train/b", "val/a", "val/b", "test/a", "test/b", "extra/x/y"))
    assert any(named(note, "val/", "test/") for note in source.notes) and any("extra/" in note for note in source.notes)


def test_a_test_part_without_classes_is_not_one(tmp_path):
    data = tree(tmp_path / "d", "train/a", "train/b", "test")
    source = open_source(data)
    assert len(source.splits["test"]) == 2 and any("test/" in note for note in source.notes)


@pytest.mark.parametrize("name", ["train", "test", "train_station"])
def test_a_class_may_be_called_so(tmp_path, name):
    source = open_source(tree(tmp_path / "d", "bus", "car", name))
    assert list(source.class_names) == sorted(["bus", "car", name])


ODD = {
    "other name": (("train/a", "train/b", "unseen/a", "unseen/b"), r"unseen/.*\btrain/"),
    "two trainings": (("train/a", "train/b", "Train/a", "Train/b"), "folders.*: Train, train$"),
    "parts unknown": (("first/a", "first/b", "second/a", "second/b"), r"first, second.*\ba, b\b"),
    "parts by years": (("2019/cat", "2019/dog", "2020/cat", "2020/dog", "2020/eel"), r"2019, 2020.*\bcat, dog\b"),
    "a class or a part": (("bus", "car", "train/big", "train/small"), r"bus, car.*\btrain/"),
    "wrapped": (("w/x/a", "w/x/b"), "folder.*d/w/x\\?$"),
    "wrapped parts": (("w/train/a", "w/train/b", "w/test/a", "w/test/b"), "folder.*d/w\\?$"),
    "one class": (("animals/dog", "animals/cat"), "folder.*d/animals\\?$"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_clear_is_asked(tmp_path, name):
    folders, match = ODD[name]
    with pytest.raises(UsageError, match=match):
        open_source(tree(tmp_path / "d", *folders))


def test_merged_folders_are_said(tmp_path):
    source = open_source(tree(tmp_path / "d", "animals/dog", "animals/cat", "plants/oak"))
    assert list(source.class_names) == ["animals", "plants"]
    assert any(named(note, "folders", "animals") for note in source.notes)
    assert not any(
        named(note, "folders", "cat") for note in open_source(tree(tmp_path / "e", "cat/images", "dog/images")).notes
    )


def test_accents_are_the_same_however_a_system_writes_them(tmp_path):
    folders = [
        f"{part}/{unicodedata.normalize(form, name)}"
        for part, form in (("train", "NFC"), ("test", "NFD"))
        for name in ("café", "thé")
    ]
    source = open_source(tree(tmp_path / "d", *folders))
    assert list(source.class_names) == ["café", "thé"] and [len(s) for s in source.splits.values()] == [8, 8]


@pytest.mark.real_data
@pytest.mark.parametrize("place", ["", "raw"])
def test_the_four_files_of_fashion_mnist_themselves(tmp_path, place, data_root):
    shutil.copytree(data_root / "FashionMNIST" / "raw", tmp_path / "d" / place, dirs_exist_ok=True)
    assert len(open_source(f"fashion-mnist:{tmp_path / 'd'}").splits["test"]) == 10_000
