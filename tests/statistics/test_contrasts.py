"""Contrasts: against hand-made answers, an independent script, and the truth of simulated experiments."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from benchmarks.coverage import CASES, EFFECTS, simulate

from easycoreset import UsageError
from easycoreset.cli import main
from easycoreset.plan_folders import read_plan
from easycoreset.reporting.contrasts import contrast_to_json, open_outcomes, read_results
from easycoreset.statistics import (
    Contrast,
    Outcomes,
    PlannedContrast,
    Plans,
    contrast_all,
    estimate,
    holm,
    read_plans,
    sign_flip_p,
)
from easycoreset.statistics.planned_contrasts import parse_contrast
from support.messages import named

REPOSITORY = Path(__file__).parents[2]


# ---- the interval


def by_image(gains, images, rng, shared=0.0):
    """Per-image gains of seeds whose means are exactly `gains`; `shared` is an effect that all seeds have in common."""
    own = rng.choice([-1.0, 0.0, 1.0], (len(gains), images))
    common = shared * rng.choice([-1.0, 1.0], images)
    values = own + common
    return values - values.mean(1, keepdims=True) + np.array(gains)[:, None]


@pytest.mark.parametrize(("seeds", "shared"), [(2, 0.0), (3, 0.8), (5, 0.8), (10, 0.3)])
def test_the_interval_is_the_stated_one(seeds, shared):
    """Half width sqrt(t^2 s^2/n + z^2 c), c the mean covariance of all pairs of seeds over the number of images."""
    rng = np.random.default_rng(seeds)
    values = by_image(rng.normal(0.03, 0.02, seeds), 500, rng, shared)
    found = estimate(values)
    gains = values.mean(1)
    pairs = [np.cov(values[a], values[b])[0, 1] for a, b in itertools.combinations(range(seeds), 2)]
    c = max(np.mean(pairs), 0) / 500

    def half(level):
        t = scipy.stats.t.ppf(1 - level / 2, seeds - 1)
        z = scipy.stats.norm.ppf(1 - level / 2)
        return np.sqrt(t**2 * gains.var(ddof=1) / seeds + z**2 * c)

    assert found.image_variance == pytest.approx(c, rel=1e-9) and found.mean == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((gains.mean() - half(0.05), gains.mean() + half(0.05)))
    assert half(found.p) == pytest.approx(abs(gains.mean()), rel=1e-6)
    assert (found.seeds, found.images) == (seeds, 500)


def test_without_an_effect_of_images_it_is_the_t_interval():
    values = np.tile(np.array([0.0, 0.1, 0.5])[:, None], (1, 40))
    found = estimate(values)
    reference = scipy.stats.ttest_1samp([0.0, 0.1, 0.5], 0)
    assert found.image_variance == 0 and found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval()))


def test_without_noise_of_the_seeds_it_is_a_little_wider_than_the_bootstraps_over_images():
    """Seeds of the same accuracy, whose models share most of what they get right."""
    rng = np.random.default_rng(3)
    common = rng.choice([-1.0, 0.0, 1.0], 2000)
    values = np.where(rng.random((5, 2000)) < 0.8, common, rng.choice([-1.0, 0.0, 1.0], (5, 2000)))
    means = values.mean(0)
    resampled = means[rng.integers(0, 2000, (4000, 2000))].mean(1)
    bootstrap = np.diff(np.quantile(resampled, [0.025, 0.975]))[0]
    found = estimate(values)
    assert 1.0 <= (found.high - found.low) / bootstrap <= 1.25


def test_negative_covariances_count_in_the_mean_which_is_cut_at_zero():
    base = np.tile([1.0, -1.0], 50)
    values = np.stack([base + 0.1, -base + 0.2])  # one pair, covariance about -1
    assert estimate(values).image_variance == 0.0
    three = np.stack([base, base, -base]) + np.array([[0.1], [0.2], [0.4]])  # pairs +1, -1, -1
    assert estimate(three).image_variance == 0.0


@pytest.mark.parametrize("values", [np.zeros((1, 50)), np.zeros((3, 50)), np.full((4, 9), 0.1)])
def test_one_seed_and_equal_seeds_have_no_interval(values):
    found = estimate(values)
    assert np.isnan([found.low, found.high, found.p]).all() and found.mean == pytest.approx(values.mean())


def test_sign_flips_are_exact():
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 5, 8):
        values = rng.normal(0.5, 1, seeds)
        signs = np.array(list(itertools.product([1, -1], repeat=seeds)))
        expected = np.mean(np.abs((signs * values).sum(1)) >= abs(values.sum()) - 1e-12)
        assert sign_flip_p(values.tolist()) == expected >= 2.0 ** (1 - seeds)
    assert sign_flip_p([1.0] * 10) == 2 / 1024 and np.isnan(sign_flip_p([1.0] * 21)) and np.isnan(sign_flip_p([]))


def test_holm_keeps_the_size_of_its_family():
    assert holm([0.001, 0.01, 0.02, 0.8]) == pytest.approx([0.004, 0.03, 0.04, 0.8])
    assert holm([0.02, float("nan"), float("nan")]) == pytest.approx([0.06, 1.0, 1.0])  # those count as 1
    assert holm([]) == []


# ---- tables of results


def make_table(rows, images=100, eps=(0.1,)):
    """A results table and outcomes whose accuracies are exact.

    Args:
        rows: (method, updates, seed, clean, robust), accuracies in images that are right.
        images: how many.
        eps: radii.
    """
    lines = []
    outcomes = {}
    for method, updates, seed, clean, robust in rows:
        name = f"{method}-{updates}-{seed}"
        count = 1 + len(eps)
        flags = [np.arange(images) >= clean, *(np.arange(images) >= robust for _ in eps)]
        outcomes[name] = pa.table(
            {
                "index": np.tile(np.arange(images), count),
                "label": np.tile(np.arange(images) % 10, count),
                "attack": ["clean"] * images + ["pgd"] * images * len(eps),
                "eps": np.repeat([0.0, *eps], images),
                "broken": np.concatenate(flags),
            }
        )
        lines += [
            {
                "cell": name,
                "evaluation": name,
                "data": "digits",
                "model": "m",
                "method": method,
                "objective": "standard",
                "fraction": 1.0 if method == "full" else 0.5,
                "variant": "",
                "updates": updates,
                "epochs": None,
                "seed": seed,
                "main": eps[0],
                "attack": "pgd",
                "eps": radius,
                "strong": False,
            }
            for radius in eps
        ]
    return Outcomes(pa.Table.from_pylist(lines), outcomes.__getitem__)


def plan(method="mine", against="random", kind="equal updates", size=1200, frontier=(), seeds=(0, 1), **more):
    given = {"data": "digits", "model": "m", "objective": "standard", "fraction": 0.5, "eps": 0.1} | more
    return PlannedContrast(
        method=method, against=against, kind=kind, size=size, frontier=frontier, seeds=seeds, **given
    )


FRONTIER = [
    ("random", 600, 0, 60, 50),
    ("random", 600, 1, 60, 50),
    ("random", 1200, 0, 80, 30),
    ("random", 1200, 1, 80, 30),
]
MINE = [("mine", 1200, 0, 70, 45), ("mine", 1200, 1, 70, 44)]


def one(outcomes, planned, **facts):
    (found, *_) = contrast_all(outcomes, Plans(family=(planned,), **facts))
    return found


def test_matched_clean_interpolates_between_the_means_of_random():
    matched = plan(kind="matched clean", frontier=(600, 1200))
    found = one(make_table([*FRONTIER, *MINE]), matched)
    assert found.declared and found.gains == pytest.approx({0: 0.05, 1: 0.04}) and found.off == ()
    equal = one(make_table([*FRONTIER, *MINE]), plan())
    assert equal.gains == pytest.approx({0: 0.15, 1: 0.14})


def test_clean_accuracies_are_those_of_the_declared_seeds():
    """Seed 2 was added later; under another learning rate there are rows that do not count."""
    later = [("random", 1200, 2, 20, 10), ("mine", 1200, 2, 10, 10)]
    table = make_table([*FRONTIER, *MINE, *later])
    assert one(table, plan()).clean == pytest.approx((0.7, 0.8))
    assert one(table, plan(kind="matched clean", frontier=(600, 1200))).clean == pytest.approx((0.7, 0.8))
    assert one(table, plan(variant="lr=1.0")).clean is None
    without = make_table([*FRONTIER[:2], ("random", 2400, 0, 90, 10), ("random", 2400, 1, 90, 10), *MINE])
    found = one(without, plan(kind="matched clean", frontier=(600, 2400)))
    assert found.gains and found.clean is None  # random has not this budget


def test_a_seed_off_the_frontier_is_kept_and_told_and_a_mean_off_it_is_not_measurable():
    matched = plan(kind="matched clean", frontier=(600, 1200))
    table = make_table([*FRONTIER, ("mine", 1200, 0, 84, 30), ("mine", 1200, 1, 68, 40)])  # mean clean 76
    found = one(table, matched)
    # at 76 the frontier is at 34, slope -1: gains 30 - 34 + (84 - 76) and 40 - 34 + (68 - 76)
    assert found.gains == pytest.approx({0: 0.04, 1: -0.02}) and found.off == (0,)
    assert named(found.describe(), ". 1 ", "seeds", "frontier")
    far = one(make_table([*FRONTIER, ("mine", 1200, 0, 84, 45), ("mine", 1200, 1, 78, 45)]), matched)
    assert far.verdict == "not measurable" and far.gains == {} and "81.0%" in far.describe()


def test_two_methods_are_compared_above_the_same_frontier():
    """Each at its own clean accuracy: 45 at 70 (frontier 40) beside 49 at 65 (frontier 45)."""
    other = [("other", 1200, 0, 65, 49), ("other", 1200, 1, 65, 47)]
    found = one(
        make_table([*FRONTIER, *MINE, *other]), plan(against="other", kind="matched clean", frontier=(600, 1200))
    )
    assert found.gains == pytest.approx({0: 0.01, 1: 0.02})


def test_rows_that_keep_everything_stand_in_every_setting():
    full = [("full", 1200, 0, 85, 20), ("full", 1200, 1, 85, 22)]
    found = contrast_all(make_table([*FRONTIER, *MINE, *full]), Plans(family=(plan(against="full"),)))
    assert found[0].gains == pytest.approx({0: 0.25, 1: 0.22})
    listed = {(c.method, c.against, c.plan.kind) for c in found}
    assert listed == {
        ("mine", "full", "equal updates"),
        ("mine", "random", "equal updates"),
        ("mine", "random", "matched clean"),
        ("full", "random", "equal updates"),
        ("full", "random", "matched clean"),
    }


def test_sensitivity_leaves_out_the_most_extreme_seed():
    rows = [("random", 1200, s, 80, 30) for s in range(4)] + [
        ("mine", 1200, s, 80, r) for s, r in enumerate((40, 41, 39, 10))
    ]
    found = one(make_table(rows), plan(seeds=(0, 1, 2, 3)))
    assert found.extreme == 3 and found.without_extreme.mean == pytest.approx(0.10) and found.without_extreme.seeds == 3
    assert found.sign_flip_p == sign_flip_p([0.10, 0.11, 0.09, -0.20])
    assert one(make_table([*FRONTIER, *MINE]), plan()).without_extreme is None  # of two seeds one would be left


def test_rows_on_different_images_are_refused():
    table = make_table([*FRONTIER, *MINE])
    load = table.load

    def other(name):
        found = load(name)
        return found if name != "mine-1200-1" else found.set_column(0, "index", pa.array(found["index"].to_numpy() + 1))

    with pytest.raises(UsageError, match=r"^results: .*\bimages\b"):
        contrast_all(Outcomes(table.results, other), Plans(family=(plan(),)))


def test_what_is_unfinished_is_provisional_and_counts_in_the_family():
    rows = [*FRONTIER, *MINE, ("other", 1200, 0, 80, 60)]
    family = (plan(), plan("other"), plan("absent"))
    first, second, third, *_ = contrast_all(make_table(rows), Plans(family=family))
    assert first.p_holm == pytest.approx(min(1, 3 * first.p)) and (second.p_holm, third.p_holm) == (1.0, 1.0)
    assert second.verdict == third.verdict == "provisional" and (second.lacking, third.lacking) == ((1,), (0, 1))
    assert named(second.describe(), "+30.0 points", "1 of 2 seeds")


def test_seeds_beyond_the_declared_ones_are_exploratory():
    rows = [(m, 1200, s, 80, r + s % 2) for m, r in (("random", 30), ("mine", 40)) for s in range(4)]
    rows[-1] = ("mine", 1200, 3, 80, 44)
    more = plan(seeds=(0, 1, 2, 3))
    found = contrast_all(make_table(rows), Plans(family=(plan(),), later=((more, "added on 2027-01-02"),)))
    assert [(c.declared, sorted(c.gains)) for c in found] == [(True, [0, 1]), (False, [0, 1, 2, 3])]
    assert "exploratory: added on 2027-01-02" in found[1].describe() and np.isnan(found[1].p_holm)


def test_few_images_and_few_seeds_are_said():
    rows = [
        *((m, u, s, 40, r // 2) for m, u, s, _, r in FRONTIER),
        ("mine", 1200, 0, 40, 22),
        ("mine", 1200, 1, 40, 20),
    ]
    said = one(make_table(rows, images=50), plan()).describe()
    assert named(said, " 50 ", "images") and named(said, " 5 seeds")
    (single,) = contrast_all(make_table([FRONTIER[2], MINE[0]]), Plans(family=(plan(seeds=(0,)),)))
    assert single.verdict == "not measurable" and named(single.describe(), "one seed", "interval")


def contrast(low, high, p_holm=0.01, declared=True, **more):
    values = np.full((5, 4), (low + high) / 2)
    figures = dataclasses.replace(estimate(values), low=low, high=high, p=0.01, images=1000)
    return Contrast(
        plan=plan(seeds=tuple(range(5))),
        declared=declared,
        p_holm=p_holm,
        estimate=figures,
        gains=dict.fromkeys(range(5), (low + high) / 2),
        **more,
    )


def test_verdicts():
    assert contrast(0.01, 0.03).verdict == "gain" and named(contrast(0.01, 0.03).describe(), "gains", "random", "+2.0")
    assert contrast(-0.03, -0.01).verdict == "loss" and contrast(-0.02, 0.03).verdict == "inconclusive"
    assert contrast(-0.005, 0.008).verdict == "no difference" and contrast(0.001, 0.008).verdict == "gain"
    assert contrast(0.01, 0.03, p_holm=0.2).verdict == "inconclusive"  # it does not stand after Holm's correction
    assert contrast(0.01, 0.03, p_holm=float("nan"), declared=False).verdict == "gain"
    assert contrast(0.01, 0.03, held_back=True).verdict == "inconclusive"
    assert named(contrast(0.01, 0.03, held_back=True).describe(), "primary")
    assert contrast(float("nan"), float("nan")).verdict == "not measurable"


def test_the_primary_contrast_is_tested_alone_and_opens_the_way():
    strong = [("mine", 1200, s, 80, 60 + s % 2) for s in range(4)]
    weak = [("other", 1200, s, 80, 25 + 20 * (s % 2)) for s in range(4)]
    rows = [("random", 1200, s, 80, 30) for s in range(4)] + strong + weak
    mine = plan(seeds=(0, 1, 2, 3))
    other = plan("other", seeds=(0, 1, 2, 3))
    first, second = contrast_all(make_table(rows), Plans(family=(other, mine), primary=mine))[:2]
    assert first.primary and first.p_holm == first.p and first.verdict == "gain" and not second.held_back
    assert second.p_holm == second.p  # a family of one is left
    first, second = contrast_all(make_table(rows), Plans(family=(other, mine), primary=other))[:2]
    assert (first.verdict, second.verdict) == ("inconclusive", "inconclusive") and second.held_back and second.low > 0


def test_strong_attacks_are_told_beside_the_declared_contrasts():
    table = make_table([*FRONTIER, *MINE])
    lines = table.results.to_pylist()
    strong = [
        line | {"evaluation": f"apgd {line['cell']}", "attack": "apgd", "strong": True}
        for line in lines
        if line["cell"].startswith(("mine-1200", "random-1200"))
    ]

    def load(key):
        attack, _, cell = key.rpartition(" ")
        if not attack:
            return table.load(key)
        right = 20 if cell.startswith("mine") else 10 + int(cell[-1])
        images = np.arange(5, 45)
        return pa.table(
            {
                "index": np.tile(images, 2),
                "label": np.tile(images % 10, 2),
                "attack": ["clean"] * 40 + ["apgd"] * 40,
                "eps": [0.0] * 40 + [0.1] * 40,
                "broken": np.r_[np.zeros(40, bool), np.arange(40) >= right],
            }
        )

    found = one(Outcomes(pa.Table.from_pylist([*lines, *strong]), load), plan())
    under = found.strong["apgd"]
    assert (under.images, under.seeds) == (40, 2) and under.mean == pytest.approx((10 / 40 + 9 / 40) / 2)
    assert found.gains == pytest.approx({0: 0.15, 1: 0.14})  # of the table's attacks, unchanged
    written = json.loads(json.dumps(contrast_to_json(found), allow_nan=False))
    assert written["strong"]["apgd"]["images"] == 40 and written["verdict"] == found.verdict


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("a vs a", "'a vs a'"),
        ("a versus b", "METHOD vs METHOD.*'a versus b'"),
        ("a vs b keeping half", r"\bFRACTION\b.*'a vs b keeping half'"),
        ("vs b", "METHOD vs METHOD.*'vs b'"),
        ("", "METHOD vs METHOD.*''"),
    ],
)
def test_contrasts_that_are_spelled_wrong(spec, match):
    with pytest.raises(UsageError, match=match):
        parse_contrast(spec)


def test_contrasts_are_spelled_with_their_setting():
    found = parse_contrast("file:my list.txt vs easiest:by=loss at matched clean for trades:steps=5 keeping 0.3")
    assert (found.method, found.against) == ("file:my list.txt", "easiest:by=loss")
    assert (found.kind, found.objective, found.fraction) == ("matched clean", "trades:steps=5", 0.3)
    assert PlannedContrast.from_json(json.loads(json.dumps(plan().to_json()))) == plan()


# ---- against others


COMMITTED = sorted(
    folder.name
    for folder in (REPOSITORY / "results").iterdir()
    if {"plan.json", "results.parquet"} <= {file.name for file in folder.glob("*")}
)
RECIPE = """\
shared:
  data: digits
  model: digits-cnn
  methods: [random, easycore, "easiest:loss"]
  controls: [full]
  seeds: 3
products:
  - updates: [10, 40]
    fractions: [0.3]
    attack: "pgd:steps=3"
    eps: [0.05, 0.1]
    main-eps: 0.1
    limit: 120
    strong: ["pgd:steps=10@100"]
  - updates: [40]
    fractions: [0.2]
    objectives: ["trades:steps=1"]
    attack: [fgsm, "pgd:steps=3"]
    eps: [0.1]
    limit: 120
declare: ["easiest:loss vs easycore for standard"]
primary: easycore vs random at matched clean for standard
"""


@pytest.fixture(scope="module")
def digits_grid(tmp_path_factory):
    """Contrasts in several settings, under one attack or two together, on all images or some."""
    folder = tmp_path_factory.mktemp("contrasts")
    (folder / "grid.yaml").write_text(RECIPE)
    assert main(["compare", "--recipe", str(folder / "grid.yaml"), "--quiet", "--out", str(folder / "grid")]) == 0
    return folder / "grid"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", *COMMITTED])
def test_an_independent_script_finds_the_same_figures(name, tmp_path, request):
    """Written from the design with NumPy and SciPy alone, without a look at the package."""
    folder = REPOSITORY / "results" / name if name in COMMITTED else request.getfixturevalue("digits_grid")
    script = Path(__file__).parents[1] / "support" / "independent_contrasts.py"
    subprocess.run([sys.executable, script, folder, tmp_path / "found.json"], check=True, capture_output=True)
    plans = read_plans(read_plan(folder))
    later = []
    for planned in (planned for planned in plans.family if (planned.method, planned.against) == ("easycore", "random")):
        pair = dataclasses.replace(planned, method="easiest:by=loss", against="easycore", cells=())
        later += [(pair, ""), (dataclasses.replace(pair, kind="equal updates", frontier=()), "")]
    known = {}
    for ours in contrast_all(
        open_outcomes(folder, read_results(folder)), dataclasses.replace(plans, later=tuple(later))
    ):
        known.setdefault(identify(contrast_to_json(ours)), ours)
    theirs = json.loads((tmp_path / "found.json").read_text())
    assert sum(line["declared"] for line in theirs) == len(plans.family) >= 4 and len(theirs) > 20
    for line in theirs:
        mine = known[identify(line)]
        if mine.verdict == "provisional":  # the script gives no figures before all seeds are done
            continue
        assert (line["low"] is None) == (mine.verdict == "not measurable")
        assert mine.declared or not line["declared"]  # it lists some of the declared ones among the others too
        if line["low"] is None:
            continue
        for name in ("gain", "low", "high", "p"):
            assert getattr(mine, name) == pytest.approx(line[name], rel=1e-6, abs=1e-12), (line["method"], name)
        assert mine.estimate.image_variance == pytest.approx(line["image_variance"], rel=1e-6, abs=1e-15)
        assert mine.sign_flip_p == pytest.approx(line["sign_flip_p"]) and mine.extreme == line["extreme"]
        if line["declared"]:
            assert mine.p_holm == pytest.approx(line["p_holm"], rel=1e-6) and mine.verdict == line["verdict"]
            low = line["without_extreme"]["low"]  # none where the remaining seeds have the same gain
            expected = np.nan if low is None else low
            assert mine.without_extreme.low == pytest.approx(expected, rel=1e-6, nan_ok=True)


def identify(line):
    return (
        *(line[name] for name in ("method", "against", "objective", "kind", "size")),
        round(line["eps"], 6),
        line["fraction"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name.startswith("worse")], ids=lambda case: case.name
)
def test_intervals_hold_the_truth_as_often_as_they_say(case):
    """Few seeded tables of every case; `benchmarks/coverage.py` has thousands, whose figures README tells."""
    tables = 150
    effect = EFFECTS["0.3 points"]
    null = simulate(case, effect, False, tables, seed=1)
    other = simulate(case, effect, True, tables, seed=1)
    held = sum(null.held) + sum(other.held)
    measured = sum(null.measured) + sum(other.measured)
    assert measured > 0.5 * 2 * tables * len(case.methods)
    assert 0.92 <= held / measured <= 0.985  # of 900 intervals and more: three standard errors are 2 points
    for h, m in zip(null.held, null.measured, strict=True):
        assert h / m >= 0.89  # every single method, of 150 tables: three standard errors are 5 points
    assert null.claimed / tables <= 0.12 and other.claimed > null.claimed
