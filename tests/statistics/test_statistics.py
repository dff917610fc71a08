"""Statistics against values that can be checked by hand."""

import pyarrow as pa
import pytest

from easycoreset import UsageError
from easycoreset.statistics import Outcomes, group_results
from easycoreset.statistics.settings import Setting


def row(method, seed, clean, accuracy, eps=0.1, strong=False):
    return {
        "data": "digits",
        "model": "m",
        "variant": "",
        "scoring": None,
        "method": method,
        "fraction": 0.5,
        "objective": "standard",
        "updates": 9,
        "seed": seed,
        "clean": clean,
        "attack": "pgd",
        "eps": eps,
        "main": 0.1,
        "accuracy": accuracy,
        "strong": strong,
    }


def test_groups_are_means_and_deviations_over_seeds():
    rows = [row("easycore", s, 0.80 + 0.01 * s, 0.60 + 0.02 * s) for s in range(3)]
    rows += [row("random", s, 0.90 + 0.01 * s, 0.50 + 0.02 * s) for s in range(3)]
    rows += [row("easycore", s, 0.80 + 0.01 * s, 0.40, strong=True) for s in range(3)]  # these are told elsewhere
    easy, random = group_results(pa.Table.from_pylist(rows))
    assert (easy.method, easy.seeds) == ("easycore", 3) and easy.robust["pgd", 0.1] == pytest.approx((0.62, 0.02))
    assert easy.clean == pytest.approx((0.81, 0.01)) and random.robust["pgd", 0.1] == pytest.approx((0.52, 0.02))


def test_groups_of_other_data_models_and_variants_stand_apart():
    own = row("easycore", 0, 0.8, 0.6)
    others = [own | {name: "other", "seed": 1} for name in ("data", "model", "variant", "scoring")]
    groups = group_results(pa.Table.from_pylist([own, *others]))
    assert [group.seeds for group in groups] == [1] * 5 and len({group.setting for group in groups}) == 5


def test_rows_without_scores_stand_in_the_settings_of_all_scoring_runs():
    """Random and all data, which read no scores, beside easycore of two scoring runs; other data are another setting."""
    common = {"evaluation": "e", "model": None, "objective": "standard", "variant": "", "updates": 3, "epochs": None}
    common |= {"seed": 0, "main": 0.1, "attack": "pgd", "eps": 0.1, "strong": False}
    lines = [
        {"cell": f"{data} {method} {scoring}", "data": data, "method": method, "scoring": scoring, "fraction": fraction}
        for data in ("a", "b")
        for method, scoring, fraction in (
            ("random", None, 0.5),
            ("full", None, 1.0),
            ("easycore", "", 0.5),
            ("easycore", "score.epochs=30", 0.5),
        )
    ]
    outcomes = Outcomes(pa.Table.from_pylist([common | line for line in lines]), {}.__getitem__)
    for data in ("a", "b"):
        for scoring in ("", "score.epochs=30"):
            rows = outcomes.grid[Setting(data, None, "standard", 0.5, "", scoring)]
            cells = {method: seeds[0] for (method, _), seeds in rows.items()}
            assert cells == {
                "random": [f"{data} random None"],
                "full": [f"{data} full None"],
                "easycore": [f"{data} easycore {scoring}"],
            }
    assert len(outcomes.grid) == 4


def test_several_attacks_break_an_image_together():
    table = pa.table(
        {
            "index": [0, 1, 2] * 3,
            "attack": ["clean"] * 3 + ["pgd"] * 3 + ["fgsm"] * 3,
            "eps": [0.0] * 3 + [0.1] * 6,
            "broken": [False, False, True, True, False, True, False, False, True],
        }
    )
    line = {
        "cell": "c",
        "evaluation": "e",
        "data": "d",
        "model": None,
        "objective": "standard",
        "fraction": 0.5,
        "variant": "",
        "method": "m",
        "updates": 3,
        "epochs": None,
        "seed": 0,
        "main": 0.1,
        "attack": "pgd",
        "eps": 0.1,
        "strong": False,
    }
    setting = Setting("d", None, "standard", 0.5)
    found = Outcomes(pa.Table.from_pylist([line]), lambda name: table).row(setting, ("m", 3), 0.1)
    assert found.clean.tolist() == [[True, True, False]] and found.robust.tolist() == [[False, True, False]]


def test_evaluations_of_several_attacks_break_an_image_together():
    """Each attack in an evaluation of its own; one that is strong counts only where it is asked for."""

    def evaluation(attack, broken):
        flags = [False, False, True, *broken]
        attacks = ["clean"] * 3 + [attack] * 3
        columns = {"index": [0, 1, 2] * 2, "attack": attacks, "eps": [0.0] * 3 + [0.1] * 3, "broken": flags}
        return pa.table(columns)

    tables = {
        "1": evaluation("pgd", [True, False, True]),
        "2": evaluation("fgsm", [False, False, True]),
        "3": evaluation("apgd", [True, True, True]),
    }
    common = {"cell": "c", "data": "d", "model": None, "objective": "standard", "fraction": 0.5, "variant": ""}
    common |= {"method": "m", "updates": 3, "epochs": None, "seed": 0, "main": 0.1, "eps": 0.1}
    lines = [
        common | {"evaluation": key, "attack": attack, "strong": attack == "apgd"}
        for key, attack in (("1", "pgd"), ("2", "fgsm"), ("3", "apgd"), (None, "worst"))
    ]
    outcomes = Outcomes(pa.Table.from_pylist(lines), tables.__getitem__)
    setting = Setting("d", None, "standard", 0.5)
    assert outcomes.row(setting, ("m", 3), 0.1).robust.tolist() == [[False, True, False]]
    strong = outcomes.row(setting, ("m", 3), 0.1, strong="apgd")
    assert strong.robust.tolist() == [[False, False, False]] and strong.clean.tolist() == [[True, True, False]]
    assert outcomes.strong_attacks(setting) == ["apgd"]
    tables["2"] = tables["2"].set_column(0, "index", pa.array([0, 1, 3] * 2))
    with pytest.raises(UsageError, match=r"^results: .*\bc\b.*\bimages\b"):
        Outcomes(pa.Table.from_pylist(lines), tables.__getitem__).row(setting, ("m", 3), 0.1)
