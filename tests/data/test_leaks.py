"""Test images among the training images: they are not chosen, and an evaluation on them is not silent."""

import numpy as np
import pytest

from easycoreset import choose, evaluate, score, select, train
from easycoreset.data import open_source
from easycoreset.data.content_hashes import find_leaked
from easycoreset.tables import Coreset, Scores
from support.messages import named

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")  # of classes that are few
LEAKED = np.array([3, 50, 51, 200])


@pytest.fixture(scope="module")
def leaky(tmp_path_factory, digits):
    """Digits, 300 to train on and 60 to test on, of which four are exact copies of training images; and scores."""
    folder = tmp_path_factory.mktemp("leaky")
    split = digits.splits["train"]
    x = split.images.pixels.numpy()
    y = split.labels
    test = np.r_[LEAKED, np.arange(300, 356)]
    np.savez(folder / "d.npz", x=x[:300], y=y[:300], x_test=x[test], y_test=y[test])
    np.savez(folder / "clean.npz", x=x[:300], y=y[:300], x_test=x[400:460], y_test=y[400:460])
    score(data=str(folder / "d.npz"), epochs=1, model="digits-cnn", out=folder / "s")
    return folder


def test_they_are_found_and_kept_in_the_table(leaky):
    assert np.flatnonzero(find_leaked(open_source(str(leaky / "d.npz")))).tolist() == LEAKED.tolist()
    assert find_leaked(open_source(str(leaky / "clean.npz"))) is None
    table = Scores.read(leaky / "s")
    assert np.flatnonzero(table.in_test).tolist() == LEAKED.tolist() and "in_test" not in table.columns


@pytest.mark.parametrize("method", ["easycore", "random", "easiest:loss", "easycore:per_class=true", "ccs"])
def test_no_method_chooses_them(leaky, tmp_path, method, caplog):
    coreset = select(scores=leaky / "s", method=method, fraction=0.5, out=tmp_path / "c.parquet")
    assert len(coreset) == 150 and not coreset.keep[LEAKED].any() and coreset.provenance["leaked"] == 4
    assert named(caplog.text, "4 samples", "test")


def test_they_can_be_kept(leaky, tmp_path, cli):
    whole = choose(Scores.read(leaky / "s"), method="random", fraction=1.0)
    assert len(whole) == 296
    ran = cli(
        "select",
        "--scores",
        leaky / "s",
        "--method",
        "random",
        "--fraction",
        1,
        "--keep-leaked",
        "--out",
        tmp_path / "c.parquet",
    )
    assert ran.code == 0 and len(Coreset.read(tmp_path / "c.parquet")) == 300


def test_what_a_model_was_trained_on_is_told(leaky, tmp_path):
    given = {"data": str(leaky / "d.npz"), "eps": 0.1, "attack": "fgsm"}
    train(data=given["data"], updates=2, model="digits-cnn", out=tmp_path / "all")
    found = next(
        c for c in evaluate(**given, weights=tmp_path / "all", out=tmp_path / "e").checks if c.name == "trained_on"
    )
    assert not found.passed and found.figure == 4 and named(found.message, "4 of", "60 samples")
    select(scores=leaky / "s", fraction=0.5, out=tmp_path / "c.parquet")
    train(data=given["data"], updates=2, model="digits-cnn", coreset=tmp_path / "c.parquet", out=tmp_path / "chosen")
    result = evaluate(**given, weights=tmp_path / "chosen", out=tmp_path / "f")
    assert next(c for c in result.checks if c.name == "trained_on").passed
    result = evaluate(**given, weights=tmp_path / "all", split="train", out=tmp_path / "h")
    assert not any(c.name == "trained_on" for c in result.checks)  # it was asked for


@pytest.mark.real_data
def test_the_ten_of_cifar100(data_root):
    assert int(find_leaked(open_source(f"cifar100:{data_root}")).sum()) == 10
