"""What a grid declares: before anything is evaluated, once, and what came later stays exploratory."""

import dataclasses
import importlib
import json
import re
import sys

import pyarrow.parquet as pq
import pytest
from grids import SMALL, done

import easycoreset as ec
from easycoreset import UsageError
from easycoreset.experiment import Cell, Experiment, Product, run_experiment
from easycoreset.experiment.declared_contrasts import resolve_contrasts
from easycoreset.experiment.start_log import add_start
from easycoreset.options import CompareOptions
from easycoreset.pipeline.experiment_options import build_experiment
from easycoreset.recipes import RECIPES, cifar10_main, cifar100_main
from easycoreset.reporting.contrasts import measure_contrasts, open_outcomes, read_results
from easycoreset.statistics import Plans, contrast_all, list_starts, read_plans

BASE = Cell(data="digits", model="digits-cnn", attack=("fgsm",), eps=(0.1, 0.2), main_eps=0.2)


def experiment(*products, **more):
    given = {"base": BASE, "fractions": (0.5,), "updates": (3, 6), "seeds": 2}
    return Experiment(name="tiny", products=tuple(Product(**given | product) for product in products), **more)


METHODS = {"methods": ("random", "easycore", "easiest:by=loss", "random:per_class=true")}
ALL = {"methods": ("full",), "fractions": (1.0,)}


def told(declared):
    return [
        (c.method, c.against, c.kind, c.objective, c.fraction, c.size, c.frontier, c.seeds) for c in declared.contrasts
    ]


def test_each_method_is_declared_against_random_but_not_the_controls():
    found = resolve_contrasts(experiment(METHODS | {"contrast": "matched clean"}, ALL))
    assert told(found) == [
        (m, "random", "matched clean", "standard", 0.5, 6, (3, 6), (0, 1)) for m in ("easycore", "easiest:by=loss")
    ]
    assert {c.eps for c in found.contrasts} == {0.2} and found.primary is None
    cells = found.cells[found.contrasts[0]]
    assert {(c.method, c.updates, c.seed) for c in cells} == {
        *(("easycore", 6, s) for s in (0, 1)),
        *(("random", u, s) for u in (3, 6) for s in (0, 1)),
    }


def test_any_two_rows_are_declared_by_name():
    both = experiment(METHODS | {"fractions": (0.5, 0.3)}, ALL, METHODS | {"objectives": ("trades:steps=2",)})
    spelled = ("easiest:loss vs easycore", "easycore vs full", "easycore vs random at equal updates for trades:steps=2")
    assert told(resolve_contrasts(dataclasses.replace(both, declares=spelled))) == [
        *(
            ("easiest:by=loss", "easycore", "matched clean", o, f, 6, (3, 6), (0, 1))
            for o, f in (("standard", 0.5), ("standard", 0.3), ("trades:steps=2", 0.5))
        ),
        *(("easycore", "full", "equal updates", "standard", f, 6, (), (0, 1)) for f in (0.5, 0.3)),
        ("easycore", "random", "equal updates", "trades:steps=2", 0.5, 6, (), (0, 1)),
    ]
    (narrowed,) = resolve_contrasts(
        dataclasses.replace(both, declares=("easiest:loss vs easycore for standard keeping 0.3",))
    ).contrasts
    assert narrowed.setting == ("digits", "digits-cnn", "standard", 0.3)


def test_the_primary_contrast_is_one():
    whole = experiment(METHODS | {"contrast": "matched clean", "fractions": (0.5, 0.3)})
    with pytest.raises(UsageError, match=r"^primary\b.*\b2\b.*keeping 0\.3"):
        resolve_contrasts(dataclasses.replace(whole, primary="easycore vs random"))
    found = resolve_contrasts(dataclasses.replace(whole, primary="easycore vs random keeping 0.3"))
    assert found.primary == found.contrasts[0] and found.primary.fraction == 0.3 and len(found.contrasts) == 4
    options = CompareOptions(recipe="cifar10-main", data="cifar10:x", primary="easycore vs full", out="y")
    with pytest.raises(UsageError, match="^primary: .*'easycore vs full'"):
        build_experiment(options)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("easycore vs easycore", "'easycore vs easycore'"),
        ("easiest:loss vs easiest:by=loss", "'easiest:loss vs easiest:by=loss'"),  # one row, spelled in two ways
        ("easycore vs hardest", "'easycore vs hardest'.*'hardest'"),
        ("esycore vs random", "'esycore'.*'easycore'"),
        ("easycore vs herding", r"'easycore vs herding'.*\bsetting\b"),  # it is there, with another objective
        ("easycore vs random for trade", "'trade'.*'trades'"),
        (
            "easycore vs random at matched clean for pgd-at",
            r"'easycore vs random at matched clean for pgd-at'.*\bsetting\b",
        ),
        ("easycore vs full", "'easycore vs full'.*'full'"),
        ("easycore vs random keeping 0.9", r"'easycore vs random keeping 0\.9'.*\bsetting\b"),
    ],
)
def test_contrasts_that_cannot_be_declared(spec, match):
    other = {"methods": ("random", "herding"), "objectives": ("pgd-at",), "updates": (6,)}
    with pytest.raises(UsageError, match=match):
        resolve_contrasts(experiment(METHODS, other, declares=(spec,)))


def test_the_main_recipes_declare_what_they_say():
    for recipe, seeds, budgets in ((cifar10_main, 10, (600, 1200, 2400)), (cifar100_main, 5, (600, 1200, 2400, 3600))):
        found = resolve_contrasts(recipe("cifar10:x"))
        assert found.primary == found.contrasts[0] and len(found.primary.seeds) == seeds
        assert (found.primary.method, found.primary.kind, found.primary.frontier) == (
            "easycore",
            "matched clean",
            budgets,
        )
        assert found.primary.eps == 2 / 255 and found.primary.size == 2400
        others = [(c.method, c.against, c.kind) for c in found.contrasts[1:] if c.objective == "standard"]
        assert others == [
            ("easiest:by=loss", "random", "matched clean"),
            ("easycore:per_class=true", "random", "matched clean"),
            ("easycore", "full", "equal updates"),
            ("easiest:by=loss", "easycore", "matched clean"),
        ]
    robust = [c for c in resolve_contrasts(cifar10_main("cifar10:x")).contrasts if c.objective == "trades:steps=5"]
    assert [(c.method, c.against, c.eps, len(c.seeds)) for c in robust] == [
        ("easycore", "random", 8 / 255, 5),
        ("easycore", "full", 8 / 255, 5),
    ]
    assert set(RECIPES) >= {"cifar10-main", "cifar100-main"}


# ---- on record


def record_of(out):
    return json.loads((out / "run.json").read_text())


@pytest.mark.slow
def test_a_grid_that_is_extended_after_a_look_keeps_its_first_family(tmp_path, cli, inline):
    """Finished, looked at, then extended by a method and three seeds."""
    out = tmp_path / "grid"
    small = [{"2": "3", "easycore": "easycore"}.get(a, a) for a in SMALL]
    declared = ["--declare", "easycore vs full", "--primary", "easycore vs random"]
    assert cli("compare", *small, *declared, "--preregister", "--json", "--out", out).code == 0
    assert done(out) == 0 and not (out / "report.html").exists() and not (out / "results.parquet").exists()
    assert cli("compare", *small, *declared, "--out", out).code == 0
    before = json.loads((out / "contrasts.json").read_text())["contrasts"]
    family = [line for line in before if line["declared"]]
    assert [(c["method"], c["against"], c["primary"]) for c in family] == [
        ("easycore", "random", True),
        ("easycore", "full", False),
    ]
    more = [
        {"random,easycore": "random,easycore,hardest", "3": "6"}.get(a, a)
        if place != small.index("--updates") + 1
        else a
        for place, a in enumerate(small)
    ]
    ran = cli("compare", *more, "--declare", "hardest vs easycore", "--out", out)
    assert ran.code == 0 and "exploratory" in ran.err
    after = json.loads((out / "contrasts.json").read_text())["contrasts"]
    assert [line for line in after if line["declared"]] == family  # to the last digit
    added = {(c["method"], c["against"], len(c["seeds"])): c for c in after if c["note"]}
    today = record_of(out)["starts"][-1]["time"][:10]
    assert set(added) == {("easycore", "random", 6), ("hardest", "random", 6), ("hardest", "easycore", 6)}
    assert {c["note"] for c in added.values()} == {f"added on {today}"} and not any(
        c["declared"] for c in added.values()
    )
    page = (out / "report.html").read_text()
    assert "How this was run" in page and f"added on {today}" in page and "hardest (standard, 0.2 kept)" in page
    starts = record_of(out)["starts"]
    assert [start["done"] for start in starts] == [0, 9] and [len(start["declared"]) for start in starts] == [2, 3]
    assert starts[0]["again"]["times"] == 1 and "seeds 3 to 5" in page  # preregistered, then run
    assert cli("compare", *more, "--preregister", "--out", out).code == 2


@pytest.mark.slow
def test_contrasts_declared_over_finished_cells_are_exploratory(tmp_path, inline):
    """Cells without a record of their start, as where somebody copied them: nothing that rests on them is declared."""
    whole = experiment(
        METHODS
        | {"base": dataclasses.replace(BASE, limit=20, scoring_epochs=1), "contrast": "equal updates", "updates": (3,)}
    )
    half = dataclasses.replace(whole, products=(dataclasses.replace(whole.products[0], methods=("random",)),))
    run_experiment(half, tmp_path, workers=2)
    plans = read_plans(
        {
            "starts": add_start(
                {}, whole, resolve_contrasts(dataclasses.replace(whole, primary="easycore vs random")), tmp_path
            )
        }
    )
    assert plans.family == () and plans.primary is None
    assert [c.method for c, _ in plans.later] == ["easycore", "easiest:by=loss"]
    assert all(re.match(r"2 .*\bcells\b", why) for _, why in plans.later)
    fresh = read_plans(
        {
            "starts": add_start(
                {}, whole, resolve_contrasts(dataclasses.replace(whole, primary="easycore vs random")), tmp_path / "new"
            )
        }
    )
    assert len(fresh.family) == 2 and fresh.primary == fresh.family[0]


def test_the_same_start_again_is_only_counted(tmp_path, inline):
    small = experiment({"methods": ("random",), "updates": (1,), "seeds": 1})
    small = dataclasses.replace(
        small, products=(dataclasses.replace(small.products[0], base=dataclasses.replace(BASE, limit=20)),)
    )
    for _ in range(3):
        run_experiment(small, tmp_path / "grid", workers=1)
    starts = list_starts(record_of(tmp_path / "grid"))
    assert len(starts) == 1 and starts[0]["again"]["times"] == 2 and record_of(tmp_path / "grid")["status"] == "done"


def test_a_record_of_version_0_1_is_read_as_its_last_start():
    old = {
        "started": "2026-11-24T16:08:25+0000",
        "versions": {"commit": "dc47b0e"},
        "planned": 4,
        "declared": {"standard": "matched clean"},
        "experiment": {
            "name": "grid",
            "products": [
                {
                    "base": {"data": "cifar10:runs/data", "model": "m", "eps": [0.1, 0.2], "main_eps": 0.2},
                    "methods": ["random", "easycore", "full"],
                    "fractions": [0.5],
                    "objectives": ["standard"],
                    "updates": [3, 6],
                    "epochs": [],
                    "seeds": 2,
                    "contrast": "equal updates",
                }
            ],
        },
    }
    (contrast,) = read_plans(old).family
    assert (contrast.method, contrast.kind, contrast.data, contrast.eps) == (
        "easycore",
        "matched clean",
        "cifar10",
        0.2,
    )
    assert (contrast.size, contrast.frontier, contrast.seeds) == (6, (3, 6), (0, 1))
    assert read_plans({}).family == () and list_starts({}) == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"starts": [{}]}, r"starts\[0\] lacks"),
        ({"starts": 3}, r"\bstarts\b.* 3$"),
        ({"experiment": {"products": [{"methods": ["random"]}]}, "starts": []}, "lacks"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, change, match, inline):
    small = experiment({"methods": ("random",), "updates": (1,), "seeds": 1})
    small = dataclasses.replace(
        small, products=(dataclasses.replace(small.products[0], base=dataclasses.replace(BASE, limit=20)),)
    )
    out = tmp_path / "grid"
    run_experiment(small, out, workers=1)
    (out / "run.json").write_text(json.dumps(record_of(out) | change))
    with pytest.raises(UsageError, match=rf"run\.json: .*{match}"):
        ec.report(out=out)


@pytest.mark.slow
def test_the_page_tells_compute_classes_controls_and_strong_attacks(tmp_path, cli, inline):
    out = tmp_path / "grid"
    arguments = [a for a in SMALL if a not in ("--controls", "full")]
    ran = cli("compare", *arguments, "--strong", "apgd:iterations=3@40", "--json", "--out", out)
    assert ran.code == 0, ran.err
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["method"] for row in rows} == {"random", "easycore", "random:per_class=true", "full"}
    page = (out / "report.html").read_text()
    for text in (
        "full (RS2, up to order)",
        "epochs of training",
        "and of scoring",
        "Worst class",
        "Every class",
        "How this was run",
        "Strong attacks: apgd:iterations=3",
        "Sensitivity of the declared contrasts",
        "sign-flip p",
    ):
        assert text in page, text
    (declared,) = (c for c in ran.json["contrasts"] if c["declared"])
    assert declared["strong"]["apgd:iterations=3"]["images"] == 40


# ---- what a review found


def tiny(method, **more):
    base = dataclasses.replace(BASE, limit=20, scoring_epochs=1)
    return experiment(
        {"base": base, "methods": ("random", method), "updates": (2,), "contrast": "equal updates"} | more
    )


def test_a_changed_method_is_not_the_one_that_was_declared(tmp_path, monkeypatch, inline):
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "grid"
    declared = []
    for sign in ("", "-"):
        (tmp_path / "declared_mine.py").write_text(MINE.replace("{sign}", sign))
        for name in [name for name in sys.modules if name == "declared_mine"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        run_experiment(tiny("declared_mine:pick"), out, workers=1)
        declared.append(measure_contrasts(out, read_results(out)))
    first, second = (next(c for c in found if c.declared) for found in declared)
    assert first.verdict != "provisional" and second.gains == first.gains  # of the cells that were declared
    assert any(c.note.startswith("added on") and len(c.gains) == 2 and c.gains != first.gains for c in declared[1])
    assert len(record_of(out)["starts"]) == 2


MINE = """
import numpy as np
from easycoreset import Coreset


def pick(scores, count, seed):
    return Coreset.from_order(np.arange(len(scores))[::{sign}1][:count], scores)
"""


def test_a_contrast_in_updates_does_not_rest_on_epochs(tmp_path, inline):
    run_experiment(tiny("random:per_class=true", contrast=None, methods=("random", "hardest")), tmp_path, workers=2)
    updates = tiny("hardest")
    plans = read_plans({"starts": add_start({}, updates, resolve_contrasts(updates), tmp_path / "new")})
    run_experiment(tiny("hardest", updates=(), epochs=(2,)), tmp_path, workers=2)
    results = read_results(tmp_path)
    found = contrast_all(open_outcomes(tmp_path, results, plans), plans)
    assert {row["epochs"] for row in results.to_pylist()} == {2}
    assert found[0].declared and found[0].plan.unit == "updates" and found[0].verdict != "provisional"
    alone = contrast_all(open_outcomes(tmp_path, results, Plans()), plans)
    assert alone[0].verdict == "provisional"  # without the cells that it names


def test_what_a_later_start_leaves_out_stays_in_the_family(tmp_path, inline):
    run_experiment(tiny("hardest"), tmp_path, workers=2)
    before = measure_contrasts(tmp_path, read_results(tmp_path))[0]
    run_experiment(tiny("middle"), tmp_path, workers=2)
    after = measure_contrasts(tmp_path, read_results(tmp_path))
    assert "hardest" not in read_results(tmp_path)["method"].to_pylist()
    assert (after[0].method, after[0].declared, after[0].gains) == ("hardest", True, before.gains)


def test_overwriting_what_was_looked_at_forgets_no_start(tmp_path, inline):
    run_experiment(tiny("hardest"), tmp_path, workers=2)
    run_experiment(
        dataclasses.replace(tiny("hardest"), primary="hardest vs random"), tmp_path, workers=2, overwrite=True
    )
    starts = record_of(tmp_path)["starts"]
    plans = read_plans(record_of(tmp_path))
    assert len(starts) == 2 and "overwritten" in starts[0] and plans.primary is None and len(plans.family) == 1
    run_experiment(tiny("hardest", fractions=(0.3,)), tmp_path, workers=2, overwrite=True)
    plans = read_plans(record_of(tmp_path))
    assert [c.fraction for c in plans.family] == [0.5] and [c.fraction for c, _ in plans.later] == [0.3]


def test_a_refused_start_is_not_on_record(tmp_path, inline):
    run_experiment(tiny("hardest"), tmp_path, workers=2)
    with (tmp_path / "results.parquet").open("ab") as file:
        file.write(b"mine")
    before = record_of(tmp_path)
    with pytest.raises(UsageError, match=r"results\.parquet"):
        run_experiment(dataclasses.replace(tiny("hardest"), declares=("hardest vs random at equal updates",)), tmp_path)
    assert record_of(tmp_path) == before


def test_strong_attacks_take_no_more_images_than_the_table_has(tmp_path, inline):
    base = dataclasses.replace(BASE, eps=(0.1,), main_eps=None, limit=20, strong=("fgsm@40", "noise"))
    run_experiment(tiny("hardest", base=base, methods=("random",), seeds=1), tmp_path, workers=1)
    (cell,) = (tmp_path / "cells").glob("[!.]*")
    assert [line["samples"] for line in json.loads((cell / "cell.json").read_text())["strong"]] == [20, 20]
    assert ec.report(out=tmp_path).exists()


def test_one_question_is_declared_once_whichever_way_it_is_asked():
    both = experiment(METHODS | {"contrast": "equal updates"}, declares=("random vs easycore at equal updates",))
    assert [(c.method, c.against) for c in resolve_contrasts(both).contrasts] == [
        ("easycore", "random"),
        ("easiest:by=loss", "random"),
    ]
    with pytest.raises(UsageError, match=r"FRACTION in \(0, 1\]"):
        resolve_contrasts(experiment(METHODS, declares=("easycore vs random keeping 0",)))
