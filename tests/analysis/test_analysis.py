"""The analysis: known relations of hardness, outcomes and margins are found, and one command answers on real digits."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from easycoreset import Scores, UsageError, analyze, train
from easycoreset.analysis import agreement_matrix, correlate_with_margin, outcomes_by_quantile
from support.messages import named

N = 400


def outcomes(wrong, broken_at):
    """Of one evaluation: clean, and an attack at each eps."""
    tables = [pa.table({"index": np.arange(N), "attack": ["clean"] * N, "eps": np.zeros(N), "broken": wrong})]
    for eps, broken in broken_at.items():
        for attack in ("fgsm", "pgd"):
            kept = broken if attack == "pgd" else np.zeros(N, bool)
            tables.append(
                pa.table({"index": np.arange(N), "attack": [attack] * N, "eps": np.full(N, eps), "broken": kept})
            )
    return pa.concat_tables(tables)


def test_quantiles_of_known_outcomes():
    rng = np.random.default_rng(0)
    hardness = rng.permutation(N).astype(np.float32)
    wrong = hardness >= 380
    broken = (hardness >= 200) | (hardness >= 380)
    hardness[hardness == 7] = np.nan
    first, second = outcomes_by_quantile(hardness, outcomes(wrong, {0.2: broken, 0.1: wrong}), 4)
    assert (first["eps"], second["eps"], first["samples"]) == (0.1, 0.2, N - 1)
    assert [b["samples"] for b in second["bins"]] == [100, 100, 100, 99]
    assert [b["robust"] for b in second["bins"]] == [1, pytest.approx(0.99, abs=0.011), pytest.approx(0, abs=0.02), 0]
    assert second["bins"][3]["clean"] == pytest.approx(79 / 99) and second["bins"][3]["flip_rate"] == 1
    assert second["bins"][0]["flip_rate"] == 0 and [b["flip_rate"] for b in first["bins"]] == [0, 0, 0, 0]
    assert second["bins"][0]["hardness"] < second["bins"][3]["hardness"]
    low, high = second["bins"][0]["robust_interval"]
    assert 0.95 < low < 1 and high == 1
    known = np.isfinite(hardness)
    assert second["spearman"] == pytest.approx(spearmanr(hardness[known], broken[known]).statistic, abs=1e-5)
    nobody = outcomes_by_quantile(hardness, outcomes(np.ones(N, bool), {0.1: np.ones(N, bool)}), 4)
    assert nobody[0]["bins"][0]["flip_rate"] is None and nobody[0]["spearman"] is None


def test_margins_of_known_relation():
    rng = np.random.default_rng(1)
    hardness = rng.normal(size=N).astype(np.float32)
    distance = -hardness + rng.normal(size=N)
    rows = rng.permutation(N)[:200]
    table = pa.table({"index": rows, "distance_upper_bound": pa.array(distance[rows], mask=np.arange(200) < 3)})
    found = correlate_with_margin(hardness, table, 5)
    expected = spearmanr(hardness[rows[3:]], distance[rows[3:]]).statistic
    assert found["samples"] == 197 and found["spearman"] == pytest.approx(expected, abs=1e-5)
    low, high = found["interval"]
    assert low < found["spearman"] < high < -0.3 and 0.05 < high - low < 0.3
    means = [part["mean"] for part in found["bins"]]
    assert len(means) == 5 and means[0] > means[2] > means[4]
    flat = correlate_with_margin(np.zeros(N, np.float32), table, 5)
    assert flat["spearman"] is None and flat["interval"] is None


def test_agreement_is_symmetric_and_one_with_itself():
    rng = np.random.default_rng(2)
    a = rng.normal(size=N)
    found = agreement_matrix({"a": a, "b": a + rng.normal(size=N), "c": -a}, np.arange(N) % 3)
    assert found["names"] == ["a", "b", "c"]
    matrix = np.array(found["spearman"])
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1) and matrix[0, 2] == pytest.approx(-1)
    assert 0.5 < matrix[0, 1] < 0.9 and found["overlap_30"][0][2] == 0


COMMON = {
    "data": "digits",
    "model": "digits-cnn",
    "others": "tests.support.factories:plain",
    "adversarial": "trades:eps=0.1:steps=1",
    "transfer": "thin-resnet",
    "updates": 6,
    "epochs": 2,
    "limit": 60,
    "margins": 30,
    "bins": 3,
    "eps": [0.05, 0.1],
    "attack": "pgd:steps=2",
}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "run"
    return folder, analyze(**COMMON, out=folder)


@pytest.mark.slow
def test_one_command_answers_all_questions(analysed):
    folder, found = analysed
    assert json.loads((folder / "analysis.json").read_text()) == json.loads(json.dumps(found))
    assert {(r["attacked"], r["split"]) for r in found["vulnerability"]} == {
        (name, split) for name in ("another seed", "tests.support.factories:plain") for split in ("train", "test")
    }
    assert {r["hardness"] for r in found["margins"]} >= {"aign", "loss", "el2n", "grand", "aum"}
    assert all(
        sum(part["samples"] for part in row["bins"]) == 60
        for row in found["vulnerability"]
        if row["hardness"] == "aign"
    )
    assert found["agreement"]["aign"]["names"] == [
        "main",
        "another seed",
        "tests.support.factories:plain",
        "trades:eps=0.1:steps=1",
    ]
    assert [row["epochs"] for row in found["early"]] == [1, 1]
    assert [row["method"] for row in found["transfer"]] == ["easycore", "easycore:per_class=true", "random"]
    named = json.loads((folder / "plan.json").read_text())["steps"]
    runs = [folder / "steps" / named[name] / "run.json" for name in named if name.startswith("score ")]
    seeds = [json.loads(file.read_text()).get("given", {}).get("seed") for file in runs]
    assert seeds[0] == 0 and 0 not in seeds[1:3]  # attacked models have other seeds than the scored one
    scores = {name: folder / "steps" / named[f"score {name}"] for name in ("main", "test")}
    assert len(Scores.read(scores["main"] / "scores.parquet")) == 1438
    assert len(Scores.read(scores["test"] / "scores_test.parquet")) == 359
    assert analyze(**COMMON, out=folder) == found  # it is read, not made again


@pytest.mark.slow
def test_scores_and_models_that_are_there_are_not_made_again(analysed, scored, tmp_path, cli):
    """A finished scoring run and trained models take the place of those that an analysis would train."""
    train(data="digits", model="digits-cnn", updates=20, seed=7, out=tmp_path / "other")
    attacked = str(tmp_path / "other")
    flags = ["analyze", "--data", "digits", "--attacked", attacked, "--adversarial", "none", "--epochs", 1]
    flags += ["--limit", 60, "--margins", 30, "--eps", "0.1", "--attack", "pgd:steps=2"]
    ran = cli(*flags, "--scores", scored, "--dry-run", "--json", "--out", tmp_path / "x")
    assert ran.code == 0 and ran.json["kinds"] == {"score": 1, "measure": 1, "evaluate": 4}, ran.err
    ran = cli(*flags, "--scores", scored, "--json", "--out", tmp_path / "x")
    assert ran.code == 0, ran.err
    assert {row["attacked"] for row in ran.json["vulnerability"]} == {attacked}
    assert str(scored) in ran.json["scored_by"] and len(ran.json["agreement"]["aign"]["names"]) == 2
    assert len(ran.json["early"]) > 1  # of the five epochs of that run
    wrong = cli(*flags, "--scores", scored, "--model", "thin-resnet", "--out", tmp_path / "y")
    assert wrong.code == 2 and named(wrong.err, "model ", "digits-cnn", "'thin-resnet'")
    wrong = cli(*flags, "--scores", attacked, "--out", tmp_path / "y")
    assert wrong.code == 2 and named(wrong.err, "scores.parquet") and not (tmp_path / "y").exists()


def test_its_page(analysed, cli):
    folder, _ = analysed
    ran = cli("report", "--out", folder)
    assert ran.code == 0, ran.err
    page = (folder / "report.html").read_text()
    for title in (
        "less vulnerable?",
        "farther from the decision boundary?",
        "a property of the data?",
        "Do few scored epochs suffice?",
        "for a larger one?",
    ):
        assert title in page
    assert "heatmap" in page and "95% bootstrap intervals" in page


def test_wrong_use(tmp_path):
    for options, match in (
        ({"bins": 1}, "^bins.* 1$"),
        ({"others": ["digits-cnn"]}, r"^others.*\bmodel\b.*digits-cnn"),
        ({"transfer": None}, r"^updates.*\btransfer\b.* 6$"),
        ({"adversarial": "trade"}, "'trade'.*'trades'"),
        ({"eps": 0}, r"^eps.* 0(\.0)?$"),
    ):
        with pytest.raises(UsageError, match=match):
            analyze(**{**COMMON, **options, "out": tmp_path / "x"})
    assert not (tmp_path / "x").exists()
