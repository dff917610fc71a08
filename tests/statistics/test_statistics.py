"""Statistics against values that can be checked by hand."""

import pyarrow as pa
import pytest

from easycoreset.statistics import Outcomes, group_results


def row(method, seed, clean, accuracy, eps=0.1):
    return {
        "method": method,
        "fraction": 0.5,
        "objective": "standard",
        "updates": 9,
        "seed": seed,
        "clean": clean,
        "attack": "pgd",
        "eps": eps,
        "accuracy": accuracy,
    }


def test_groups_are_means_and_deviations_over_seeds():
    rows = [row("easycore", s, 0.80 + 0.01 * s, 0.60 + 0.02 * s) for s in range(3)]
    rows += [row("random", s, 0.90 + 0.01 * s, 0.50 + 0.02 * s) for s in range(3)]
    easy, random = group_results(pa.Table.from_pylist(rows))
    assert (easy.method, easy.seeds) == ("easycore", 3)
    assert easy.clean == pytest.approx((0.81, 0.01)) and random.robust["pgd", 0.1] == pytest.approx((0.52, 0.02))


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
        "data": "d",
        "model": None,
        "objective": "standard",
        "fraction": 0.5,
        "method": "m",
        "updates": 3,
        "epochs": None,
        "seed": 0,
        "main": 0.1,
        "attack": "pgd",
        "eps": 0.1,
    }
    found = Outcomes(pa.Table.from_pylist([line]), lambda name: table).row(("d", None, "standard", 0.5), ("m", 3), 0.1)
    assert found.clean.tolist() == [[True, True, False]] and found.robust.tolist() == [[False, True, False]]
