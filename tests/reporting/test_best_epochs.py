"""The best epoch beside the last: the evaluations of `best/` in a grid, and their section of the page."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from grids import done, record, stamps

from easycoreset import UsageError, evaluate
from easycoreset.options import CompareOptions
from easycoreset.plan_folders import read_cell
from easycoreset.reporting.best_epochs import describe_best_epochs, without_best_epochs
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.workflow.comparing import plan_comparison, run_comparison

TINY = {
    "data": "digits",
    "model": "digits-cnn",
    "methods": ("random",),
    "controls": "none",
    "fractions": (0.5,),
    "attack": ("fgsm",),
    "eps": (0.1, 0.2),
    "epochs": (3,),
    "seeds": 2,
    "workers": 1,
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best") / "grid"
    run_comparison(CompareOptions(**TINY, lr=0.5, objectives="pgd-at:steps=1:eps=0.1", val_fraction=0.2, out=folder))
    return folder


@pytest.mark.slow
def test_the_best_epoch_is_evaluated_at_the_main_radius_and_trains_nothing(grid, tmp_path):
    cells = record(grid)["cells"]
    assert done(grid, "train") == 2 and len(cells) == 4 and done(grid) == 6
    for cell in cells:
        trained = grid / "steps" / f"train-{cell['steps']['train']}"
        best = cell["options"].get("evaluate.checkpoint") == "best"
        history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
        robust = [line["val_robust"] for line in history]
        chosen = read_cell(grid, cell)
        assert chosen["trained"]["best_epoch"] == 1 + robust.index(max(robust))
        assert chosen["validation"]["val_robust"] == (max(robust) if best else robust[-1])
        assert [entry["eps"] for entry in cell["evaluations"]] == ([0.1] if best else [0.1, 0.2])
        by_hand = evaluate(
            data="digits",
            weights=trained / "best" if best else trained,
            attack="fgsm",
            eps=0.1,
            checks="quick",
            out=tmp_path / cell["name"],
        )
        key = cell["evaluations"][0]["key"]
        folders = grid / "steps" / f"evaluate-{key}", tmp_path / cell["name"]
        table, expected = (pq.read_table(folder / "predictions.parquet") for folder in folders)
        assert table.equals(expected)
        assert chosen["evaluated"][0]["clean"]["accuracy"] == by_hand.clean.accuracy


@pytest.mark.slow
def test_the_section_gives_the_difference_with_its_interval(grid):
    found = ComparisonResults(grid)
    cells = [read_cell(grid, cell) for cell in found.record["cells"]]
    (section,) = describe_best_epochs(found.outcomes, cells)
    (table,) = section.tables
    (row,) = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    last, best = (
        {r["seed"]: r for r in found.results.to_pylist() if r["eps"] == 0.1 and ("best" in r["variant"]) == is_best}
        for is_best in (False, True)
    )
    gaps = [100 * (last[seed]["accuracy"] - best[seed]["accuracy"]) for seed in (0, 1)]
    assert row["difference"] == pytest.approx(sum(gaps) / 2, abs=0.01) and row["seeds"] == 2
    assert row["robust, best"] == pytest.approx(50 * sum(best[seed]["accuracy"] for seed in best), abs=0.01)
    assert row["low"] is None or row["low"] < row["difference"] < row["high"]
    shown = without_best_epochs(found.results)
    assert {r["variant"] for r in shown.to_pylist()} == {"lr=0.5; val_fraction=0.2"}
    assert not any(c.declared and "best" in c.plan.setting.variant for c in found.contrasts)


@pytest.mark.slow
def test_discarded_weights_of_the_best_epoch_are_trained_again(tmp_path):
    options = TINY | {"val_fraction": 0.2, "seeds": 1, "eps": (0.1,), "out": tmp_path / "grid", "discard_weights": True}
    run_comparison(CompareOptions(**options))
    (trained,) = (tmp_path / "grid" / "steps").glob("train-*")
    assert not (trained / "best").exists() and not (trained / "model.safetensors").exists()
    before = stamps(tmp_path / "grid")
    run_comparison(CompareOptions(**options))
    assert stamps(tmp_path / "grid") == before
    run_comparison(CompareOptions(**options | {"attack": ("noise",)}))
    assert done(tmp_path / "grid") == 4 and not (trained / "best").exists()
    (best,) = (cell for cell in record(tmp_path / "grid")["cells"] if "evaluate.checkpoint" in cell["options"])
    for entry in best["evaluations"]:  # as a plan of before best epochs were evaluated left it
        shutil.rmtree(tmp_path / "grid" / "steps" / f"evaluate-{entry['key']}")
    before = stamps(tmp_path / "grid")
    run_comparison(CompareOptions(**options | {"attack": ("noise",)}))
    assert stamps(tmp_path / "grid") == before  # nothing is trained for them


def test_options_of_evaluations_are_axes_of_their_own(tmp_path):
    """Cells of one training and two ways of evaluating it are two cells, the checkpoint's among them."""

    def cells(**more):
        return plan_comparison(CompareOptions(**TINY | {"seeds": 1} | more, out=tmp_path)).cells

    (alone,) = cells()
    both = cells(attack="noise", vary={"evaluate.seed": (0, 1)})
    assert [cell.variant for cell in both] == ["", "evaluate.seed=1"]
    assert len({cell.steps["train"].key for cell in both}) == 1 and both[0].name == alone.name != both[1].name
    (other_norm,) = cells(norm="l2")
    assert other_norm.name != alone.name and other_norm.steps["train"].key == alone.steps["train"].key
    varied = cells(val_fraction=0.2, vary={"evaluate.checkpoint": ("last", "best")})
    assert [len(cell.evaluations) for cell in varied] == [2, 2]
    with pytest.raises(UsageError, match=r"evaluate\.checkpoint.*val_fraction.*best"):
        cells(vary={"evaluate.checkpoint": "best"})


def test_a_model_without_a_best_epoch_is_refused(tmp_path, scored):
    with pytest.raises(UsageError, match=r"checkpoint.*--val-fraction.*best"):
        evaluate(data="digits", weights=scored, checkpoint="best", attack="fgsm", eps=0.1, out=tmp_path / "e")
    assert not (tmp_path / "e").exists()
