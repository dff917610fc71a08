"""What a grid declares: before anything is evaluated, once, and what came later stays exploratory."""

import importlib
import json
import re
import sys

import pyarrow.parquet as pq
import pytest
from grids import SMALL, done, record
from plans import plan, recipe, run

import easycoreset as ec
from easycoreset import UsageError
from easycoreset.options import CompareOptions
from easycoreset.reporting.contrasts import ComparisonResults, read_results
from easycoreset.statistics import read_plans
from easycoreset.workflow import recipes
from easycoreset.workflow.comparing import plan_comparison
from easycoreset.workflow.starts import add_start, describe_start
from support.sources import write_cifar

SHARED = {"model": "digits-cnn", "attack": "fgsm", "eps": [0.1, 0.2], "main-eps": 0.2, "fractions": 0.5}
SHARED |= {"updates": [3, 6], "seeds": 2, "controls": "none", "contrast": "none"}
METHODS = {"methods": ["random", "easycore", "easiest:by=loss", "random:per_class=true"]}
ALL = {"methods": "full"}


@pytest.fixture
def grid(tmp_path):
    """A function that writes a recipe of several products."""

    def write(*products, shared=SHARED, **top):
        return recipe(tmp_path / "recipes", *products, data="digits", shared=shared, **top)

    return write


def told(declared):
    return [
        (c.method, c.against, c.kind, c.objective, c.fraction, c.size, c.frontier, c.seeds) for c in declared.contrasts
    ]


def resolve(recipe):
    return plan(recipe).declared


def test_each_method_is_declared_against_random_but_not_the_controls(grid):
    found = resolve(grid(METHODS | {"contrast": "matched clean"}, ALL))
    assert told(found) == [
        (m, "random", "matched clean", "standard", 0.5, 6, (3, 6), (0, 1)) for m in ("easycore", "easiest:by=loss")
    ]
    assert {c.eps for c in found.contrasts} == {0.2} and found.primary is None
    cells = found.cells[found.contrasts[0]]
    assert {(c.method, c.updates, c.seed) for c in cells} == {
        *(("easycore", 6, s) for s in (0, 1)),
        *(("random", u, s) for u in (3, 6) for s in (0, 1)),
    }


def test_any_two_rows_are_declared_by_name(grid):
    both = (METHODS | {"fractions": [0.5, 0.3]}, ALL, METHODS | {"objectives": "trades:steps=2"})
    spelled = ["easiest:loss vs easycore", "easycore vs full", "easycore vs random at equal updates for trades:steps=2"]
    assert told(resolve(grid(*both, declare=spelled))) == [
        *(
            ("easiest:by=loss", "easycore", "matched clean", o, f, 6, (3, 6), (0, 1))
            for o, f in (("standard", 0.5), ("standard", 0.3), ("trades:steps=2", 0.5))
        ),
        *(("easycore", "full", "equal updates", "standard", f, 6, (), (0, 1)) for f in (0.5, 0.3)),
        ("easycore", "random", "equal updates", "trades:steps=2", 0.5, 6, (), (0, 1)),
    ]
    (narrowed,) = resolve(grid(*both, declare=["easiest:loss vs easycore for standard keeping 0.3"])).contrasts
    assert narrowed.setting == ("digits", "digits-cnn", "standard", 0.3, "", "")


def test_the_primary_contrast_is_one(grid):
    whole = METHODS | {"contrast": "matched clean", "fractions": [0.5, 0.3]}
    with pytest.raises(UsageError, match=r"^primary\b.*\b2\b.*keeping 0\.3"):
        resolve(grid(whole, primary="easycore vs random"))
    found = resolve(grid(whole, primary="easycore vs random keeping 0.3"))
    assert found.primary == found.contrasts[0] and found.primary.fraction == 0.3 and len(found.contrasts) == 4
    named = grid(whole, primary="easycore vs random keeping 0.3")
    with pytest.raises(UsageError, match="^primary: .*'easycore vs full'"):
        plan_comparison(CompareOptions(recipe=named, primary="easycore vs full", out="y"))


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
def test_contrasts_that_cannot_be_declared(spec, match, grid):
    other = {"methods": ["random", "herding"], "objectives": "pgd-at", "updates": 6}
    with pytest.raises(UsageError, match=match):
        resolve(grid(METHODS, other, declare=[spec]))


def test_a_variant_of_training_or_scoring_is_a_setting_of_its_own(grid):
    """Random reads no scores: one row of it is compared in every setting of scoring, but not of training."""
    varied = METHODS | {"methods": ["random", "easycore"], "contrast": "equal updates", "updates": 3, "seeds": 1}
    found = resolve(grid(varied | {"score.epochs": [2, 3], "lr": [0.1, 0.05]}))
    assert [(c.variant, c.scoring) for c in found.contrasts] == [
        ("", "score.epochs=2"),
        ("lr=0.05", "score.epochs=2"),
        ("", "score.epochs=3"),
        ("lr=0.05", "score.epochs=3"),
    ]
    randoms = [{cell.name for cell in cells if cell.method == "random"} for cells in found.cells.values()]
    assert randoms[0] == randoms[2] != randoms[1] == randoms[3]


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_the_main_recipes_declare_what_they_say(tmp_path, monkeypatch):
    write_cifar(tmp_path, copies=1)
    monkeypatch.setattr(recipes, "_require_data", lambda *given: None)  # CIFAR-10 stands for CIFAR-100
    for name, seeds, budgets in (
        ("cifar10-main", 10, (600, 1200, 2400)),
        ("cifar100-main", 5, (600, 1200, 2400, 3600)),
    ):
        found = plan(name, data=f"cifar10:{tmp_path}").declared
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
        robust = [c for c in found.contrasts if c.objective == "trades:steps=5"]
        assert [(c.method, c.against, c.eps, len(c.seeds)) for c in robust] == [
            ("easycore", "random", 8 / 255, 5),
            ("easycore", "full", 8 / 255, 5),
        ] * (name == "cifar10-main")


# ---- on record


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
    today = record(out)["starts"][-1]["time"][:10]
    assert set(added) == {("easycore", "random", 6), ("hardest", "random", 6), ("hardest", "easycore", 6)}
    assert {c["note"] for c in added.values()} == {f"added on {today}"} and not any(
        c["declared"] for c in added.values()
    )
    page = (out / "report.html").read_text()
    assert "How this was run" in page and f"added on {today}" in page and "hardest (standard, 0.2 kept)" in page
    starts = record(out)["starts"]
    assert [start["done"] for start in starts] == [0, 9] and [len(start["declared"]) for start in starts] == [2, 3]
    assert starts[0]["again"]["times"] == 1 and "seeds 3, 4, 5" in page  # preregistered, then run
    assert cli("compare", *more, "--preregister", "--out", out).code == 2


def started(recipe, out):
    """What the record of a first start in a folder says was declared."""
    planned = plan(recipe)
    return read_plans({"starts": add_start({}, describe_start("x", [], planned.cells, planned.declared, out, []))})


LITTLE = SHARED | {"limit": 20, "score.epochs": 1, "updates": 3, "contrast": "equal updates"}


@pytest.mark.slow
def test_rows_that_fit_all_fractions_are_one_contrast_and_others_one_each(grid):
    """infobatch has a share of its own, and full is all data: what they say to each other is one question."""
    shared = SHARED | {"fractions": [0.3, 0.5], "updates": 6}
    rows = {"methods": ["random", "infobatch", "rs2", "full"]}
    both = resolve(
        grid(rows, shared=shared, primary="infobatch vs full", declare=["rs2 vs full", "infobatch vs random"])
    )
    told_sides = [(c.method, c.against, c.fraction) for c in both.contrasts]
    assert (
        told_sides[0][:2] == ("infobatch", "full") and len([t for t in told_sides if t[:2] == told_sides[0][:2]]) == 1
    )
    assert set(told_sides[1:]) == {(m, a, f) for m, a in (("rs2", "full"), ("infobatch", "random")) for f in (0.3, 0.5)}
    assert both.primary is not None and len(both.cells[both.contrasts[0]]) == 4


@pytest.mark.slow
def test_a_grid_of_dynamic_methods_and_its_page(tmp_path, cli, inline):
    """One cell a seed where the share is the method's own; the page tells what was trained on, and has no 0% kept."""
    methods = ["--methods", "random,rs2,infobatch,acs-craig:every=2:warm=0.2,reselect:method=easycore:every=2"]
    small = ["--fractions", "0.3,0.5", "--updates", "24", "--seeds", "2", "--limit", "30", "--controls", "full"]
    common = [*methods, *small, "--eps", "0.1", "--attack", "fgsm", "--data", "digits", "--out", tmp_path / "grid"]
    assert cli("compare", *common, "--quiet").code == 0
    rows = pq.read_table(tmp_path / "grid" / "results.parquet").to_pylist()
    counts = {m: sum(row["method"] == m for row in rows) for m in {row["method"] for row in rows}}
    assert counts["infobatch"] == counts["full"] == 2 and counts["rs2"] == counts["random"] == 4
    kept = {(row["method"], row["fraction"]): row["kept"] for row in rows}
    assert kept["rs2", 0.3] == 431 and 719 < kept["infobatch", 0.0] <= 1438
    assert {row["weighted"] for row in rows if row["method"] == "infobatch"} == {True}
    page = (tmp_path / "grid" / "report.html").read_text()
    assert "Methods that choose while they train" in page and "0% kept" not in page.replace("30% kept", "").replace(
        "50% kept", ""
    )
    for form in ("markdown", "latex"):
        assert cli("report", "--out", tmp_path / "grid", "--format", form).code == 0
    again = cli("compare", *common, "--dry-run")
    assert again.code == 0 and again.out.startswith("0 of ")


def test_contrasts_declared_over_finished_cells_are_exploratory(grid, tmp_path, inline):
    """Cells without a record of their start, as where somebody copied them: nothing that rests on them is declared."""
    run(grid(METHODS | {"methods": "random"}, shared=LITTLE), tmp_path / "grid")
    whole = grid(METHODS, shared=LITTLE, primary="easycore vs random")
    plans = started(whole, tmp_path / "grid")
    assert plans.family == () and plans.primary is None
    assert [c.method for c, _ in plans.later] == ["easycore", "easiest:by=loss"]
    assert all(re.match(r"2 .*\bcells\b", why) for _, why in plans.later)
    fresh = started(whole, tmp_path / "new")
    assert len(fresh.family) == 2 and fresh.primary == fresh.family[0]


def test_the_same_start_again_is_only_counted(grid, tmp_path, inline):
    small = grid({"methods": "random", "updates": 1, "seeds": 1}, shared=LITTLE)
    for _ in range(3):
        run(small, tmp_path / "grid")
    starts = record(tmp_path / "grid")["starts"]
    assert len(starts) == 1 and starts[0]["again"]["times"] == 2 and record(tmp_path / "grid")["status"] == "done"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"starts": [{}]}, r"starts\[0\] lacks"),
        ({"starts": 3}, r"\bstarts\b.* 3$"),
        ({"cells": [{"name": "x"}]}, r"cells\[0\] lacks"),
    ],
)
def test_a_damaged_record_is_named(grid, tmp_path, change, match, inline):
    out = tmp_path / "grid"
    run(grid({"methods": "random", "updates": 1, "seeds": 1}, shared=LITTLE), out)
    (out / "plan.json").write_text(json.dumps(record(out) | change))
    with pytest.raises(UsageError, match=rf"plan\.json: .*{match}"):
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
        "with choosing",
        "Worst class",
        "Every class",
        "How this was run",
        "Further attacks: apgd:iterations=3",
        "Sensitivity of the declared contrasts",
        "sign-flip p",
    ):
        assert text in page, text
    (declared,) = (c for c in ran.json["contrasts"] if c["declared"])
    assert declared["strong"]["apgd:iterations=3"]["images"] == 40


# ---- what a review found


@pytest.fixture
def tiny(grid):
    def write(method, shared=LITTLE, **more):
        top = {name: more.pop(name) for name in ("primary", "declare") if name in more}
        return grid({"methods": ["random", method], "updates": 2} | more, shared=shared, **top)

    return write


def test_a_changed_method_is_not_the_one_that_was_declared(tiny, tmp_path, monkeypatch, inline):
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "grid"
    declared = []
    for sign in ("", "-"):
        (tmp_path / "declared_mine.py").write_text(MINE.replace("{sign}", sign))
        for name in [name for name in sys.modules if name == "declared_mine"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        run(tiny("declared_mine:pick"), out)
        declared.append(ComparisonResults(out).contrasts)
    first, second = (next(c for c in found if c.declared) for found in declared)
    assert first.verdict != "provisional" and second.gains == first.gains  # of the cells that were declared
    assert any(c.note.startswith("added on") and len(c.gains) == 2 and c.gains != first.gains for c in declared[1])
    assert len(record(out)["starts"]) == 2
    table = read_results(out).to_pylist()
    assert len({row["cell"] for row in table if row["method"] == "declared_mine:pick"}) == 2  # of the new code
    run(tiny("declared_mine:pick"), out, prune=True)  # the declared contrast still names the old cells
    assert next(c for c in ComparisonResults(out).contrasts if c.declared).gains == first.gains


MINE = """
import numpy as np
from easycoreset import Coreset


def pick(scores, count, seed):
    return Coreset.from_order(np.arange(len(scores))[::{sign}1][:count], scores)
"""


@pytest.mark.slow
def test_a_contrast_in_updates_does_not_rest_on_epochs(tiny, tmp_path, inline):
    out = tmp_path / "grid"
    run(tiny("hardest"), out)
    before = ComparisonResults(out).contrasts[0]
    run(tiny("hardest", updates=[], epochs=2), out)
    found = ComparisonResults(out).contrasts
    assert found[0].declared and found[0].plan.unit == "updates" and found[0].gains == before.gains
    assert {(c.plan.unit, c.declared) for c in found} >= {("updates", True), ("epochs", False)}


def test_what_a_later_start_leaves_out_stays(tiny, tmp_path, inline):
    out = tmp_path / "grid"
    run(tiny("hardest"), out)
    before = ComparisonResults(out).contrasts[0]
    run(tiny("middle"), out)
    after = ComparisonResults(out).contrasts
    assert {"hardest", "middle"} <= set(read_results(out)["method"].to_pylist())  # the page shows the union
    assert (after[0].method, after[0].declared, after[0].gains) == ("hardest", True, before.gains)


@pytest.mark.slow
def test_overwriting_what_was_looked_at_forgets_no_start(tiny, tmp_path, inline):
    out = tmp_path / "grid"
    run(tiny("hardest"), out)
    run(tiny("hardest", primary="hardest vs random"), out, overwrite=True)
    starts = record(out)["starts"]
    plans = read_plans(record(out))
    assert len(starts) == 2 and "overwritten" in starts[0] and plans.primary is None and len(plans.family) == 1
    run(tiny("hardest", fractions=0.3), out, overwrite=True)
    plans = read_plans(record(out))
    assert [c.fraction for c in plans.family] == [0.5] and [c.fraction for c, _ in plans.later] == [0.3]


def test_a_refused_start_is_not_on_record(tiny, tmp_path, inline):
    out = tmp_path / "grid"
    run(tiny("hardest"), out)
    with (out / "results.parquet").open("ab") as file:
        file.write(b"mine")
    before = record(out)
    with pytest.raises(UsageError, match=r"results\.parquet"):
        run(tiny("hardest", declare=["hardest vs random at equal updates"]), out)
    assert record(out) == before


def test_strong_attacks_take_no_more_images_than_the_table_has(grid, tmp_path, inline):
    shared = {name: value for name, value in LITTLE.items() if name != "main-eps"}
    product = {"methods": "random", "updates": 2, "seeds": 1, "eps": 0.1, "strong": ["fgsm@40", "noise"]}
    run(grid(product, shared={name: value for name, value in shared.items() if name != "eps"}), tmp_path / "grid")
    rows = read_results(tmp_path / "grid").to_pylist()
    assert [(row["attack"], row["samples"]) for row in rows if row["strong"]] == [("fgsm", 20), ("noise", 20)]
    assert ec.report(out=tmp_path / "grid").path.exists()


def test_one_question_is_declared_once_whichever_way_it_is_asked(grid):
    both = grid(METHODS | {"contrast": "equal updates"}, declare=["random vs easycore at equal updates"])
    assert [(c.method, c.against) for c in resolve(both).contrasts] == [
        ("easycore", "random"),
        ("easiest:by=loss", "random"),
    ]
    with pytest.raises(UsageError, match=r"FRACTION in \(0, 1\]"):
        resolve(grid(METHODS, declare=["easycore vs random keeping 0"]))
