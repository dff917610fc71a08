"""What is collected from the steps of a cell: rows, the worst case, and attacks that are out of order."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from easycoreset.statistics.results import cell_rows, list_warnings

N = 400


def evaluation(folder, key, attack, broken, eps=0.1, strength=(), strong=False, **more):
    """An evaluate step whose attack breaks the first `broken` of N images, and its entry in the cell's record."""
    place = folder / "steps" / f"evaluate-{key}"
    place.mkdir(parents=True)
    attacked = np.arange(N) < broken
    table = {
        "index": np.tile(np.arange(N), 2),
        "attack": ["clean"] * N + [attack] * N,
        "eps": np.repeat([0.0, eps], N),
        "broken": np.concatenate([np.zeros(N, bool), attacked]),
    }
    pq.write_table(pa.table(table), place / "predictions.parquet")
    line = {"attack": attack, "norm": "linf", "eps": eps, "accuracy": 1 - broken / N, "low": 0, "high": 1, "samples": N}
    attacks = {attack: {"strength": list(strength)}}
    entry = {"key": key, "attack": attack, "eps": eps, "strong": strong, "clean": {"accuracy": 1.0}}
    return {**entry, "attacked": [line], "attacks": attacks, "warnings": [], "checks": [], **more}


def cell(*evaluated):
    facts = {"name": "c", "data": "d", "model": "m", "method": "random", "fraction": 0.5, "objective": "standard"}
    facts |= {"variant": "", "scoring": None, "updates": 3, "epochs": None, "seed": 0, "main_eps": 0.1}
    chosen = {"kept": 5, "selection_seconds": 0.0, "warnings": ["the coreset holds no sample of 1 of 2 classes"]}
    return {**facts, "seconds": 1.0, "host": "h", "chosen": chosen, "validation": {}, "evaluated": list(evaluated)}


def test_the_worst_case_joins_the_attacks_of_one_eps(tmp_path):
    first = evaluation(tmp_path, "a", "fgsm", 40, strength=(1,))
    second = evaluation(tmp_path, "b", "pgd", 100, strength=(2, 20, 1))
    strong = evaluation(tmp_path, "c", "apgd", 200, strength=(3,), strong=True)
    rows = cell_rows(tmp_path, cell(first, second, strong))
    assert [(row["attack"], row["accuracy"], row["strong"]) for row in rows] == [
        ("fgsm", 0.9, False),
        ("pgd", 0.75, False),
        ("apgd", 0.5, True),
        ("worst", 0.75, False),
    ]
    assert {row["warnings"] for row in rows} == {1} and rows[-1]["evaluation"] is None


@pytest.mark.parametrize(
    ("weak", "strong", "warned"),
    [
        (("noise", (0,), 100), ("pgd", (2, 20, 1), 60), True),
        (("noise", (0,), 62), ("pgd", (2, 20, 1), 60), False),  # within one point
        (("pgd:steps=10", (2, 10, 1), 100), ("pgd", (2, 20, 1), 60), True),
        (("square", (0, 1), 100), ("fgsm", (1,), 60), False),  # thousands of queries against one gradient step
        (("mine.module:attack", (), 100), ("pgd", (2, 20, 1), 60), False),  # it does not say how strong it is
    ],
)
def test_attacks_out_of_order_are_told(tmp_path, weak, strong, warned):
    entries = [evaluation(tmp_path, str(k), name, n, strength=s) for k, (name, s, n) in enumerate((weak, strong))]
    told = list_warnings(tmp_path, cell(*entries))[1:]
    assert len(told) == warned and all(f"{weak[0]} breaks 10.0% more than {strong[0]}" in text for text in told)
