"""The page's paragraph for people who read no statistics, and what rows cost in epochs."""

import dataclasses

import numpy as np
import pytest

from easycoreset.options import CompareOptions
from easycoreset.reporting.advice import advise
from easycoreset.reporting.classes import estimate_by_class
from easycoreset.reporting.epoch_counts import count_epochs, format_epochs
from easycoreset.statistics import Contrast, Group, PlannedContrast, Row, estimate
from easycoreset.statistics.settings import Setting
from easycoreset.workflow.comparing import plan_comparison
from support.messages import named

SEEDS = tuple(range(5))
CLEAN = {("easycore", "random"): (0.75, 0.80), ("easycore", "full"): (0.75, 0.81)}


def contrast(method, against, kind, gain, half, *, declared=True, p_holm=None, lacking=(), **setting):
    plan = PlannedContrast(
        **{"data": "d", "model": "m", "objective": "standard", "fraction": 0.5, "eps": 0.1, "size": 9} | setting,
        method=method,
        against=against,
        kind=kind,
        seeds=SEEDS,
    )
    clear = abs(gain) > half
    figures = dataclasses.replace(
        estimate(np.full((5, 4), gain)), low=gain - half, high=gain + half, p=0.01 if clear else 0.5
    )
    return Contrast(
        plan=plan,
        declared=declared,
        gains=dict.fromkeys(SEEDS, gain),
        clean=CLEAN.get((method, against)),
        estimate=figures,
        lacking=lacking,
        p_holm=(0.02 if clear else 1.0) if p_holm is None else p_holm,
    )


def group(method, clean, robust, fraction=0.5, objective="standard", **more):
    scoring = "" if method == "easycore" else None  # the others read no scores
    setting = {"data": "d", "model": "m", "variant": "", "scoring": scoring, "fraction": fraction}
    facts = {"method": method, "objective": objective, "budget": "9 updates", "seeds": 5}
    figures = {"clean": (clean, 0.01), "robust": {("pgd", 0.1): (robust, 0.01)}, "main_eps": 0.1}
    return Group(**setting | facts | figures | more)


def test_a_gain_is_told_with_its_price():
    said = advise(
        [
            contrast("easycore", "random", "matched clean", 0.03, 0.01),
            contrast("easycore", "random", "equal updates", 0.06, 0.01, declared=False),
            contrast("easycore", "full", "equal updates", 0.05, 0.01, declared=False),
        ],
    )
    assert said.startswith("Keep the 50%")
    assert named(said, "easycore", "eps 0.1", "3.0 points (2.0 to 4.0)", "random", "clean accuracy")
    assert named(said, "robust accuracy", "6.0 points (5.0 to 7.0) higher", "random")
    assert named(said, "clean accuracy", "5.0 points lower", "75.0%", "80.0%")
    assert named(said, "5.0 points (4.0 to 6.0) higher", "all data", "not declared")


def test_a_gain_that_shorter_training_gives_too_is_no_reason_to_choose():
    said = advise(
        [
            contrast("easycore", "random", "matched clean", 0.005, 0.02),
            contrast("easycore", "random", "equal updates", 0.06, 0.01, declared=False),
        ],
    )
    assert "no method" in said and "keep random" in said and "Keep the" not in said
    assert named(said, "Random samples", "fewer updates", "clean accuracy")
    assert named(said, "0.5 points (-1.5 to 2.5) higher", "inconclusive")


def test_a_gain_that_falls_to_the_correction_is_said_to_be_too_little():
    said = advise([contrast("easycore", "random", "matched clean", 0.03, 0.02, p_holm=0.2)])
    assert "Keep the" not in said and named(said, "too little", "1 declared")


def test_all_data_that_do_as_well_are_said():
    said = advise(
        [
            contrast("easycore", "random", "equal updates", 0.05, 0.01),
            contrast("easycore", "full", "equal updates", 0.00, 0.02),
        ],
    )
    assert "Keep the 50%" in said and named(said, "not known whether", "all data", "0.0 points")
    worse = advise(
        [
            contrast("easycore", "random", "equal updates", 0.05, 0.01),
            contrast("easycore", "full", "equal updates", -0.04, 0.02),
        ],
    )
    assert named(worse, "4.0 points (2.0 to 6.0) lower", "all data") and "does as well" not in worse


def test_losses_are_told_as_losses():
    lost = [contrast(m, "random", "equal updates", -0.05, 0.01) for m in ("easycore", "hardest")]
    said = advise([*lost, contrast("easycore", "random", "equal updates", -0.04, 0.02, objective="trades")])
    assert named(said, "less robust", "easycore, hardest") and "keep random" in said
    assert named(said, "trades", "losses", "easycore", "random", "4.0 points (2.0 to 6.0)")


def test_all_data_that_make_no_difference_need_no_subset():
    said = advise(
        [
            contrast("easycore", "random", "equal updates", 0.05, 0.01),
            contrast("easycore", "full", "equal updates", 0.0, 0.005),
        ],
    )
    assert named(said, "ll data", "does as well", "subset")


def test_the_price_is_that_of_the_same_budget():
    """Other budgets have contrasts too; where random has not this budget, nothing is compared at it."""
    matched = contrast("easycore", "random", "matched clean", 0.03, 0.01)
    other = contrast("easycore", "random", "equal updates", -0.2, 0.01, declared=False, size=4)
    said = advise([matched, dataclasses.replace(other, clean=(0.5, 0.9))])
    assert named(said, "At equal budgets", "5.0 points lower", "75.0%", "80.0%") and "20.0" not in said
    assert "At equal budgets" not in advise([dataclasses.replace(matched, clean=None)])


def test_what_cannot_be_measured_is_said_with_its_reason():
    lost = dataclasses.replace(
        contrast("easycore", "random", "matched clean", 0.0, 0.0), estimate=None, problem="it lies off the frontier"
    )
    said = advise([lost])
    assert named(said, "easycore", "random", "off the frontier") and "keep random" not in said


def test_finished_contrasts_are_told_beside_unfinished_ones():
    said = advise(
        [
            contrast("easycore", "random", "equal updates", 0.05, 0.01),
            contrast("hardest", "random", "equal updates", -0.2, 0.01, lacking=(4,)),
        ],
    )
    assert said.startswith("Keep the 50%") and named(said, "easycore", "1 of 2 comparisons")


def test_a_grid_without_random_recommends_no_random():
    said = advise([contrast("easycore", "hardest", "equal updates", 0.3, 0.01)])
    assert named(said, "gains", "easycore", "hardest", "30.0 points") and "keep random" not in said
    assert "declared" in advise([contrast("full", "random", "equal updates", 0.0, 0.01, declared=False)])


def test_the_primary_contrast_comes_first():
    lesser = dataclasses.replace(contrast("easycore", "random", "equal updates", 0.03, 0.01), primary=True)
    said = advise([contrast("hardest", "random", "equal updates", 0.04, 0.01), lesser])
    assert said.startswith("Keep the 50%") and named(said, "easycore", "hardest", "4.0 points")


def test_unfinished_grids_claim_nothing():
    said = advise([contrast("easycore", "random", "matched clean", 0.05, 0.01, lacking=(3, 4))])
    assert "3 of 5 seeds" in said and "Keep" not in said


def test_other_settings_have_a_sentence_each():
    trades = {"objective": "trades"}
    said = advise(
        [
            contrast("easycore", "random", "equal updates", 0.0, 0.02),
            contrast("easycore", "random", "equal updates", 0.05, 0.01, **trades),
            contrast("easycore", "random", "equal updates", 0.0, 0.01, objective="mart"),
        ],
    )
    assert named(said, "trades", "50%", "eps 0.1", "gains", "easycore", "random", "5.0 points (4.0 to 6.0)")
    assert named(said, "mart", "50%", "eps 0.1", "no method")
    assert advise([]) == ""


# ---- compute and classes


def test_compute_is_counted_in_passes_over_all_samples():
    cell = {
        "data": "d",
        "model": "m",
        "variant": "",
        "scoring": "",
        "method": "easycore",
        "fraction": 0.5,
        "objective": "standard",
        "updates": 100,
        "epochs": None,
        "chosen": {"class_counts": {"before": [500, 500]}, "kept": 500},
        "training_options": {"batch_size": 50},
        "scoring_options": {"epochs": 15},
        "trained": {},
    }
    random = cell | {"method": "random", "updates": None, "epochs": 8, "scoring": None, "scoring_options": {}}
    random |= {"chosen": {"class_counts": {"before": [500, 500]}, "kept": 250}}
    found = count_epochs([cell, random, cell | {"variant": "lr=1.0", "updates": 50}])
    row = Setting("d", "m", "standard", 0.5, "", "")
    assert found[row, "easycore", "100 updates"] == (5.0, 35.0)  # 15 epochs of training and 15 of scoring
    assert found[row._replace(scoring=None), "random", "8 epochs"] == (2.0, 2.0)
    assert found[row._replace(variant="lr=1.0"), "easycore", "50 updates"] == (2.5, 32.5)
    assert format_epochs(group("easycore", 0.8, 0.3, budget="100 updates"), found) == [5.0, 35.0]
    assert format_epochs(group("easycore", 0.8, 0.3, budget="50 updates"), found) == [None, None]


@pytest.mark.parametrize(
    ("method", "scored"),
    [
        ("easycore", True),
        ("easiest:by=loss", True),
        ("herding", True),
        ("random", False),
        ("random:per_class=true", False),
        ("full", False),
        ("file:list.txt", False),
        ("factories:first_rows", True),  # it does not say what it reads
    ],
)
def test_which_methods_look_at_scores(method, scored, tmp_path, monkeypatch):
    """A cell's plan has a scoring run, whose epochs count, where its method reads scores."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("0\n1\n2\n")
    grid = {"data": "digits", "model": "digits-cnn", "fractions": 0.5, "updates": 5, "seeds": 1, "eps": 0.1}
    planned = plan_comparison(CompareOptions(**grid, methods=method, controls="none", out=tmp_path / "out"))
    found = {cell.method.partition(":")[0]: cell for cell in planned.cells}[method.partition(":")[0]]
    assert ("score" in found.steps) is scored and (found.scoring is not None) is scored


def test_every_class_has_its_own_interval():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    robust = rng.random((4, 300)) < np.array([0.2, 0.5, 0.9])[labels]
    found = estimate_by_class(Row((0, 1, 2, 3), np.arange(300), labels, robust, robust))
    for label, figures in found.items():
        own = robust[:, labels == label]
        assert figures.mean == pytest.approx(own.mean()) and figures.low < figures.mean < figures.high
        assert figures.seed_variance == pytest.approx(own.mean(1).var(ddof=1)) and figures.images == 100
    assert min(found, key=lambda label: found[label].mean) == 0
