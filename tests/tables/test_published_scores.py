"""Scores that come with the package."""

import json

import numpy as np
import pytest

from easycoreset import Coreset, Scores, UsageError, audit, choose, compare, open_source, select
from easycoreset.tables.published_scores import FOLDER, published_names
from support.decisions import decide
from support.messages import named

COLUMNS = ["aign", "aign_std", "loss", "el2n", "aum", "forgetting", "uncertainty"]


@pytest.mark.parametrize("name", published_names())
def test_a_table_of_means_over_seeds(name):
    scores = Scores.published(name)
    assert list(scores.columns) == COLUMNS and len(scores) >= 50_000
    assert all(np.isfinite(values).all() and values.dtype == np.float32 for values in scores.columns.values())
    made = scores.provenance["published"]
    assert len(set(made["seeds"])) == len(made["seeds"]) >= 4 and made["commits"] and len(made["commands"]) >= 4
    assert scores.provenance["split"] == "train" and scores.provenance["data"] == name and "MIT" in made["licence"]
    assert "/work" not in json.dumps(scores.provenance)
    assert (scores.n_obs == scores.provenance["epochs"] * len(made["seeds"])).all()
    assert len(np.unique(scores["aign"])) > 0.99 * len(scores)  # float16 would leave a tenth of them
    assert (scores["aign_std"] > 0).all() and np.median(scores["aign_std"]) < np.median(scores["aign"])


def test_the_files_are_small():
    assert "cifar10" in published_names()
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4 * 2**20


def test_a_selection_without_data(tmp_path, cli):
    out = tmp_path / "easy.parquet"
    ran = cli("select", "--scores", "published:cifar10", "--fraction", 0.3, "--out", out, "--json")
    assert ran.code == 0 and len(coreset := Coreset.read(out)) == 15_000
    assert json.loads(out.with_suffix(".json").read_text())["options"]["scores"] == "published:cifar10"
    aign = Scores.published("cifar10")["aign"]
    assert aign[coreset.keep].max() <= aign[~coreset.keep].min()
    chosen = choose(Scores.published("cifar10"), method="easycore", fraction=0.3)
    assert (chosen.keep == coreset.keep).all()
    same = select(scores=Scores.published("cifar10"), fraction=0.3, out=tmp_path / "same.parquet")
    assert (same.keep == coreset.keep).all() and list(coreset.sample_ids[:2]) == ["train/00000", "train/00001"]
    assert "published:cifar10" in cli("select", "--list").out


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("published:cifar11", ("cifar11", "cifar10")),
        ("published:", ("''", "cifar10")),
        ("published:../published/cifar10", ("none are published", "cifar10")),
        ("published:cifar10:split=test", ("split train",)),
        ("published:cifar10:seed=1", ("cifar10:seed=1",)),
    ],
)
def test_what_is_not_published(tmp_path, cli, spec, words):
    ran = cli("select", "--scores", spec, "--fraction", 0.3, "--out", tmp_path / "easy.parquet")
    assert ran.code == 2 and named(ran.err, "scores", *words), ran.err
    assert not list(tmp_path.iterdir())


def test_of_other_data(tmp_path, cli):
    with pytest.raises(UsageError, match=r"published:cifar10.*50000 samples against 1438"):
        audit(data="digits", scores="published:cifar10", out=tmp_path / "a")
    with pytest.raises(UsageError, match=r"cifar10.*50000 samples against 1438"):
        compare(
            data="digits",
            scores="published:cifar10",
            methods=["easycore"],
            fractions=[0.5],
            updates=[2],
            out=tmp_path / "c",
        )
    ran = cli("analyze", "--data", "digits", "--scores", "published:cifar10", "--out", tmp_path / "n")
    assert ran.code == 2 and named(ran.err, "scores", "folder of a scoring run", "published:cifar10")
    assert not list(tmp_path.iterdir())


def test_a_method_that_reads_features(tmp_path):
    with pytest.raises(UsageError, match="features"):
        select(scores="published:cifar10", method="moderate", fraction=0.3, out=tmp_path / "c.parquet")


@pytest.mark.real_data
@pytest.mark.parametrize("name", published_names())
def test_they_are_of_these_data(name, data_root):
    scores, split = Scores.published(name), open_source(f"{name}:{data_root}").splits["train"]
    assert scores.provenance["fingerprint"] == split.fingerprint
    assert list(scores.sample_ids) == list(split.sample_ids) and (scores.labels == split.labels).all()


@pytest.mark.real_data
def test_data_of_the_same_name_with_another_label_are_refused(tmp_path, data_root):
    data = f"cifar10:{data_root}"
    file, ids = decide(tmp_path / "cifar10", ("train", 17, "frog"), ("train", 23, True), data=data)
    common = {"data": data, "scores": "published:cifar10", "methods": ["easycore"], "fractions": [0.5], "updates": [2]}
    with pytest.raises(UsageError, match="other data") as raised:
        compare(**common, decisions=file, out=tmp_path / "c")
    assert named(str(raised.value), "50000 samples against 49999", ids[1], ids[0])
    assert not (tmp_path / "c").exists()
