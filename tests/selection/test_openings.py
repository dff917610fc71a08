"""Features and scores from elsewhere: the same choice where they are the same, and clear errors where they do not fit."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from easycoreset import Coreset, EasycoresetWarning, Scores, UsageError, choose, compare, score, select
from easycoreset.plan_folders import read_plan
from easycoreset.selection import load_selector

FEATURE_METHODS = ("kcenter", "moderate", "herding", "craig", "prototypes")


@pytest.fixture(scope="module")
def featured(tmp_path_factory):
    out = tmp_path_factory.mktemp("featured") / "run"
    score(data="digits", epochs=2, save_features="clean", out=out)
    return out


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.parametrize("method", FEATURE_METHODS)
def test_the_runs_own_features_choose_what_they_choose_without(featured, method, tmp_path):
    scores = Scores.read(featured)
    assert load_selector(method)[1].needs[0] == "features"
    expected = choose(scores, method=method, fraction=0.1)
    shuffled = np.random.default_rng(0).permutation(len(scores))
    h = np.load(featured / "features.npy")
    lists = pa.table({"sample_id": [scores.sample_ids[i] for i in shuffled], "h": list(h[shuffled].astype(np.float32))})
    pq.write_table(lists, tmp_path / "lists.parquet")
    columns = {f"h{k}": h[shuffled, k].astype(np.float32) for k in range(h.shape[1])}
    pq.write_table(pa.table({"index": shuffled, **columns}), tmp_path / "columns.parquet")
    for file in (featured / "features.npy", tmp_path / "lists.parquet", tmp_path / "columns.parquet"):
        chosen = choose(replace(scores, features=None), method=method, fraction=0.1, features=file)
        np.testing.assert_array_equal(chosen.keep, expected.keep)
        np.testing.assert_array_equal(chosen.rank, expected.rank)


def test_select_takes_them_and_they_decide(featured, tmp_path):
    size = len(Scores.read(featured))
    np.save(tmp_path / "other.npy", np.random.default_rng(0).random((size, 3)))
    options = {"scores": featured / "scores.parquet", "method": "kcenter", "fraction": 0.05}
    own = select(**options, out=tmp_path / "own.parquet")
    with pytest.warns(EasycoresetWarning, match="fingerprint"):
        other = select(**options, features=tmp_path / "other.npy", out=tmp_path / "other.parquet")
    assert (own.keep != other.keep).any()
    assert json.loads((tmp_path / "other.json").read_text())["options"]["features"].endswith("other.npy")


def test_features_that_do_not_fit(featured, tmp_path):
    scores = Scores.read(featured)
    n = len(scores)
    np.save(tmp_path / "short.npy", np.zeros((n - 1, 3)))
    np.save(tmp_path / "flat.npy", np.zeros(n))
    np.save(tmp_path / "text.npy", np.full((n, 2), "a"))
    np.save(tmp_path / "nan.npy", np.r_[np.full((1, 3), np.nan), np.zeros((n - 1, 3))])
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    (tmp_path / "features.csv").write_text("0,1")
    pq.write_table(pa.table({"sample_id": scores.sample_ids[1:], "h": np.zeros(n - 1)}), tmp_path / "lacking.parquet")
    pq.write_table(pa.table({"h": np.zeros(n)}), tmp_path / "unkeyed.parquet")
    pq.write_table(pa.table({"index": np.arange(n)}), tmp_path / "empty.parquet")
    ragged = pa.table({"index": np.arange(n), "h": [[0.0]] * (n - 1) + [[0.0, 1.0]]})
    pq.write_table(ragged, tmp_path / "ragged.parquet")
    other = pa.table({"index": np.arange(n), "h": np.zeros(n)})
    other = other.replace_schema_metadata({"easycoreset": json.dumps({"fingerprint": "of other data"})})
    pq.write_table(other, tmp_path / "other.parquet")
    pq.write_table(pa.table({"index": np.zeros(n, np.int64), "h": np.zeros(n)}), tmp_path / "repeated.parquet")
    for name, rule in (
        ("missing.npy", "no such file"),
        ("missing.parquet", "missing"),
        ("short.npy", f"{n}, d"),
        ("flat.npy", f"{n}, d"),
        ("text.npy", "numbers"),
        ("nan.npy", "finite"),
        ("broken.npy", "broken"),
        ("features.csv", "npy or .parquet"),
        ("lacking.parquet", "lacks 1 samples"),
        ("unkeyed.parquet", "sample_id or index"),
        ("empty.parquet", "no column of numbers"),
        ("ragged.parquet", "one length"),
        ("other.parquet", "fingerprint"),
        ("repeated.parquet", "once each"),
    ):
        with pytest.raises(UsageError, match=rule), warnings.catch_warnings():
            warnings.simplefilter("ignore", EasycoresetWarning)
            choose(scores, method="kcenter", fraction=0.1, features=tmp_path / name)


GRID = {
    "data": "digits",
    "fractions": [0.1],
    "updates": [5],
    "seeds": "2",
    "eps": [0.1],
    "limit": 20,
    "attack": ["fgsm"],
    "controls": ["none"],
    "workers": 1,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_a_grid_by_given_scores_and_features(featured, tmp_path):
    """No scoring run: methods choose what they choose by hand from the file; each seed may have one of its own."""
    for seed in (0, 1):
        (tmp_path / f"of-{seed}").mkdir()
        scores = Scores.read(featured)
        replace(scores, columns={**scores.columns, "mine": np.float32(scores["aign"] * (-1) ** seed)}).write(
            tmp_path / f"of-{seed}" / "scores.parquet"
        )
    np.save(tmp_path / "features.npy", np.random.default_rng(0).random((len(scores), 3)))
    methods = ["random", "easycore", "easiest:mine", "kcenter"]
    given = {"scores": f"{tmp_path}/of-{{seed}}/scores.parquet", "features": tmp_path / "features.npy"}
    compare(**GRID, **given, methods=methods, out=tmp_path / "grid")
    plan = read_plan(tmp_path / "grid")
    assert {kind for cell in plan["cells"] for kind in cell["steps"]} == {"select", "train"}
    for cell in plan["cells"]:
        kept = Coreset.read(tmp_path / "grid" / "steps" / f"select-{cell['steps']['select']}" / "coreset.parquet").keep
        table = Scores.read(tmp_path / f"of-{cell['seed']}" / "scores.parquet")
        by_hand = choose(
            table,
            method=cell["method"],
            fraction=0.1,
            seed=cell["seed"],
            features=tmp_path / "features.npy" if cell["method"] == "kcenter" else None,
        )
        np.testing.assert_array_equal(kept, by_hand.keep)
    with pytest.raises(UsageError, match="vog"):
        compare(**GRID, **given, methods=["vog"], out=tmp_path / "other")
    with pytest.raises(UsageError, match="features_adv|probabilities"):
        compare(**GRID, **given, methods=["craig:gradients=adversarial"], out=tmp_path / "other")
    with pytest.raises(UsageError, match="nowhere"):
        compare(**GRID, scores=str(tmp_path / "nowhere.parquet"), methods=["easycore"], out=tmp_path / "other")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_features_alone_need_no_scoring_run(featured, tmp_path):
    np.save(tmp_path / "features.npy", np.random.default_rng(0).random((len(Scores.read(featured)), 3)))
    compare(
        **(GRID | {"seeds": "1"}), features=tmp_path / "features.npy", methods=["random", "kcenter"], out=tmp_path / "g"
    )
    assert {kind for cell in read_plan(tmp_path / "g")["cells"] for kind in cell["steps"]} == {"select", "train"}


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_methods_with_and_without_given_features_are_compared(featured, tmp_path):
    from easycoreset.options import CompareOptions
    from easycoreset.workflow.comparing import plan_comparison

    np.save(tmp_path / "features.npy", np.random.default_rng(0).random((len(Scores.read(featured)), 3)))
    common = GRID | {
        "methods": ["random", "easycore", "kcenter"],
        "declare": ["easycore vs kcenter"],
        "out": tmp_path / "g",
    }
    plan = plan_comparison(CompareOptions(**common, features=tmp_path / "features.npy"))
    assert len({cell.setting.scoring for cell in plan.cells if cell.setting.scoring is not None}) == 1
    np.save(tmp_path / "short.npy", np.zeros((3, 2)))
    for wrong, rule in ((tmp_path / "nowhere.npy", "no such file"), (tmp_path / "short.npy", "numbers")):
        with pytest.raises(UsageError, match=rule):
            plan_comparison(CompareOptions(**common, features=wrong))


def test_other_features_beside_the_same_scores_are_another_choice(featured, tmp_path):
    import shutil

    from easycoreset.options import CompareOptions
    from easycoreset.workflow.comparing import plan_comparison

    shutil.copytree(featured, tmp_path / "scored")
    common = GRID | {"methods": ["easycore", "kcenter"], "seeds": "1", "out": tmp_path / "g"}

    def keys():
        cells = plan_comparison(CompareOptions(**common, scores=str(tmp_path / "scored"))).cells
        return {cell.method: cell.steps["select"].key for cell in cells}

    before = keys()
    features = np.load(tmp_path / "scored" / "features.npy")
    np.save(tmp_path / "scored" / "features.npy", features[::-1])
    after = keys()
    assert after["easycore"] == before["easycore"] and after["kcenter"] != before["kcenter"]


def test_run_takes_features(featured, tmp_path):
    from easycoreset.options import PipelineOptions
    from easycoreset.workflow.running import plan_run

    np.save(tmp_path / "features.npy", np.random.default_rng(0).random((len(Scores.read(featured)), 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasycoresetWarning)
        steps = plan_run(
            PipelineOptions(data="digits", method="kcenter", features=tmp_path / "features.npy", out=tmp_path / "run")
        ).steps
    assert "features" in steps["choose coreset"].inputs and "features" not in steps["choose random"].inputs
