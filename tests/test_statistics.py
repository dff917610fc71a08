"""Statistics against values that can be checked by hand."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from easycoreset.statistics import (
    Contrast,
    contrast_all,
    group_results,
    holm,
    load_points,
    resample_weights,
    tell_gains,
)


def row(method, seed, clean, accuracy, eps=0.1):
    return {"method": method, "fraction": 0.5, "objective": "standard", "updates": 9, "seed": seed, "clean": clean,
            "attack": "pgd", "eps": eps, "accuracy": accuracy}  # fmt: skip


def test_groups_and_sentences():
    rows = [row("easycore", s, 0.80 + 0.01 * s, 0.60 + 0.02 * s) for s in range(3)]
    rows += [row("random", s, 0.90 + 0.01 * s, 0.50 + 0.02 * s) for s in range(3)]
    easy, random = group_results(pa.Table.from_pylist(rows))
    assert (easy.method, easy.seeds) == ("easycore", 3)
    assert easy.clean == pytest.approx((0.81, 0.01)) and random.robust["pgd", 0.1] == pytest.approx((0.52, 0.02))
    assert tell_gains([easy, random]) == [
        "standard, 50% kept: easycore beside random lies above it at eps 0.1 (+10.0 points); below it at clean (-10.0 points)."
    ]


def test_a_difference_within_its_standard_error_is_a_tie():
    rows = [row(m, s, 0.9, value + 0.1 * s) for m, value in (("easycore", 0.51), ("random", 0.5)) for s in range(3)]
    (sentence,) = tell_gains(group_results(pa.Table.from_pylist(rows)))
    assert (
        "within a standard error of it at clean (+0.0 points), eps 0.1 (+1.0 points)" in sentence
        and "above" not in sentence
    )


def test_one_seed_claims_nothing():
    rows = [row("easycore", 0, 0.9, 0.9), row("random", 0, 0.1, 0.1)]
    (sentence,) = tell_gains(group_results(pa.Table.from_pylist(rows)))
    assert "above" not in sentence and "within a standard error" in sentence


# ---- contrasts: planted differences, null tables, derived answers


def make_table(
    gains, seeds=5, images=400, budgets=(600, 1200, 2400), seed=0, seed_spread=0.01, slope=-0.5, cleans=(0.6, 0.7, 0.8)
):
    """A simulated experiment: random's frontier falls by `slope` in robust accuracy per clean accuracy; methods lie above it.

    Args:
        gains: method -> true gain over random at matched clean accuracy (its clean accuracy is that of 1,200 updates).

    Returns:
        (results table, outcomes by cell).
    """
    rng = np.random.default_rng(seed)
    rows, outcomes = [], {}
    ease = rng.random(images)  # what is easy for one model is easy for all: images are a common source of chance

    def add(method, updates, number, clean, robust):
        noise = rng.random((2, images))
        draws = 0.5 * ease + 0.5 * noise  # correlated over cells
        right = [_quantile_below(draw, p) for draw, p in zip(draws, (clean, robust), strict=True)]
        name = f"{method}-{updates}-{number}"
        outcomes[name] = pa.table({
            "index": np.tile(np.arange(images), 2), "attack": ["clean"] * images + ["pgd"] * images,
            "eps": np.r_[np.zeros(images), np.full(images, 0.1)], "broken": np.r_[~right[0], ~right[1]],
        })  # fmt: skip
        rows.append({"cell": name, "data": "d", "model": "m", "method": method, "fraction": 0.5, "objective": "standard",
                     "updates": updates, "epochs": None, "seed": number, "main": 0.1, "attack": "pgd", "eps": 0.1})  # fmt: skip

    for number in range(seeds):
        for updates, clean in zip(budgets, cleans, strict=True):
            shift = rng.normal(0, seed_spread)
            add("random", updates, number, clean, 0.4 + slope * (clean - 0.6) + shift)
        for method, gain in gains.items():
            clean = 0.7
            add(method, budgets[-1], number, clean, 0.4 + slope * (clean - 0.6) + gain + rng.normal(0, seed_spread))
    return pa.Table.from_pylist(rows), outcomes


def _quantile_below(draw, p):
    """Right where the draw, a sum of two halves of uniforms (a triangle on [0, 1]), lies below its p-quantile."""
    cut = np.sqrt(p / 2) if p <= 0.5 else 1 - np.sqrt((1 - p) / 2)
    return draw < cut


def contrasts(gains, declared="matched clean", **options):
    table, outcomes = make_table(gains, **options)
    found = contrast_all(table, outcomes.__getitem__, {"standard": declared})
    return {c.method: c for c in found if c.declared}


def test_a_frontier_with_a_known_gain():
    """Accuracies that are exact: matched clean interpolates half-way between two budgets of random."""
    rows, outcomes = [], {}
    for method, updates, clean, robust in [
        ("random", 600, 60, 50),
        ("random", 1200, 80, 30),
        ("mine", 1200, 70, 45),
        ("far", 1200, 90, 45),
    ]:
        for seed in range(2):
            name = f"{method}{updates}{seed}"
            flags = np.r_[np.arange(100) >= clean, np.arange(100) >= robust + seed]
            outcomes[name] = pa.table({"index": np.tile(np.arange(100), 2), "attack": ["clean"] * 100 + ["pgd"] * 100,
                                       "eps": [0.0] * 100 + [0.1] * 100, "broken": flags})  # fmt: skip
            rows.append({"cell": name, "data": "d", "model": "m", "method": method, "fraction": 0.5, "objective": "o",
                         "updates": updates, "epochs": None, "seed": seed, "main": 0.1, "attack": "pgd", "eps": 0.1})  # fmt: skip
    found = contrast_all(pa.Table.from_pylist(rows), outcomes.__getitem__, {"o": "matched clean"})
    mine = next(c for c in found if c.method == "mine" and c.kind == "matched clean")
    assert mine.declared and mine.gains == pytest.approx({0: 0.05, 1: 0.05})  # 45 - (50 + 30) / 2, in both seeds
    equal = next(c for c in found if c.method == "mine" and c.kind == "equal updates")
    assert not equal.declared and equal.gains == pytest.approx({0: 0.15, 1: 0.15}) and np.isnan(equal.p_holm)
    far = next(c for c in found if c.method == "far" and c.kind == "matched clean")
    assert far.gains == {0: None, 1: None} and far.verdict == "not measurable"
    assert "0 of 2 seeds lie on random's frontier" in far.sentence()


def test_the_interval_is_the_stated_one():
    """The seeds' variance, pooled over methods and divided by the seeds, plus what the images give to all seeds alike."""
    table, outcomes = make_table({"a": 0.05, "b": -0.05}, images=2000, seed=3)
    found = {c.method: c for c in contrast_all(table, outcomes.__getitem__) if c.kind == "equal updates"}
    right = {n: ~t["broken"].to_numpy(zero_copy_only=False)[2000:] for n, t in outcomes.items()}
    pooled = np.mean([np.var(list(c.gains.values()), ddof=1) for c in found.values()])
    for name, c in found.items():
        by_image = np.array([right[f"{name}-2400-{s}"] * 1.0 - right[f"random-2400-{s}"] for s in range(5)])
        covariance = np.cov(
            by_image
        )  # over images: the bootstrap covariance of means, in closed form, is this / images
        shared = max((covariance.sum() - np.trace(covariance)) / 20 / 2000, 0)
        variance = pooled / 5 + shared
        half = scipy.stats.t.ppf(0.975, 8) * np.sqrt(variance)
        assert c.gain == pytest.approx(by_image.mean())
        assert (c.high - c.low) / 2 == pytest.approx(half, rel=0.08)
        assert c.p == pytest.approx(2 * scipy.stats.t.sf(abs(c.gain) / np.sqrt(variance), 8), rel=0.2)


def test_verdicts():
    def verdict(low, high, p_holm=0.01, declared=True):
        c = Contrast(method="m", objective="standard", fraction=0.5, budget="9 updates", eps=0.1, kind="equal updates", declared=declared,
                     gains=dict.fromkeys(range(5), 0.0), gain=(low + high) / 2, low=low, high=high, p=0.01, p_holm=p_holm)  # fmt: skip
        return c.verdict, c.sentence()

    assert (
        verdict(0.01, 0.03)[0] == "gain"
        and "gains over random at the same budget: +2.0 points" in verdict(0.01, 0.03)[1]
    )
    assert verdict(-0.03, -0.01)[0] == "loss" and "loses to random" in verdict(-0.03, -0.01)[1]
    assert verdict(-0.02, 0.03)[0] == "inconclusive"
    assert verdict(-0.005, 0.008)[0] == "no difference" and verdict(0.001, 0.008)[0] == "gain"  # small, but there
    assert verdict(0.01, 0.03, p_holm=0.2)[0] == "inconclusive"  # it does not stand after Holm's correction
    assert verdict(0.01, 0.03, p_holm=float("nan"), declared=False)[0] == "gain"
    assert verdict(float("nan"), float("nan"))[0] == "not measurable"


def test_a_short_segment_of_the_frontier_is_no_trap():
    """Random's budgets one point of clean accuracy apart: the interval stays of the order of the seeds' spread."""
    found = contrasts({"a": 0.05}, images=2000, budgets=(600, 1200, 2400), cleans=(0.695, 0.705, 0.8))["a"]
    assert 0.0 < found.high - found.low < 0.1 and abs(found.gain - 0.05) < 0.04


def test_only_the_planned_budget_is_declared():
    table, outcomes = make_table({"a": 0.05})
    for planned, expected in [({("a", "standard"): 2400}, 1), ({("a", "standard"): 4800}, 0)]:
        found = contrast_all(table, outcomes.__getitem__, {"standard": "matched clean"}, planned)
        assert sum(c.declared for c in found) == expected


def test_fewer_than_five_seeds_are_a_first_look():
    assert "A first look." in contrasts({"a": 0.1}, seeds=3)["a"].sentence()
    assert "first look" not in contrasts({"a": 0.1}, seeds=5)["a"].sentence()


def test_holm_is_over_the_declared_contrasts_alone():
    found = contrasts({"a": 0.10, "b": 0.0, "c": 0.02})
    assert [found[m].p_holm for m in "abc"] == pytest.approx(holm([found[m].p for m in "abc"]))
    reference = [0.001, 0.01, 0.02, 0.8]
    assert holm(reference) == pytest.approx([0.004, 0.03, 0.04, 0.8])
    assert np.isnan(holm([0.5, float("nan")])[1]) and holm([0.5, float("nan")])[0] == 0.5


def test_several_attacks_break_an_image_together():
    table = pa.table({"index": [0, 1, 2] * 3, "attack": ["clean"] * 3 + ["pgd"] * 3 + ["fgsm"] * 3,
                      "eps": [0.0] * 3 + [0.1] * 6, "broken": [False, False, True, True, False, True, False, False, True]})  # fmt: skip
    row = {"cell": "c", "method": "m", "updates": 3, "epochs": None, "seed": 0}
    (point,) = load_points([row], 0.1, lambda name: table)
    assert point.clean.tolist() == [1, 1, 0] and point.robust.tolist() == [0, 1, 0]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """1,000 simulated tables: planted gains are covered in 93 to 97%, and at most 7% of null tables claim anything."""
    monkeypatch.setattr(
        "easycoreset.statistics.contrasts.resample_weights", lambda images: resample_weights(images, 150)
    )
    truths = {"null": 0.0, "small": 0.03, "large": -0.08}
    kinds = {"matched clean": 0.0, "equal updates": 0.05}  # at 2,400 random is 0.1 further on a frontier of slope -1/2
    covered, claimed, tables = {kind: [] for kind in kinds}, dict.fromkeys(kinds, 0), 1000

    def of_kind(found, kind):
        """As if that kind had been declared."""
        own = [dataclasses.replace(c, declared=True) for c in found if c.kind == kind and c.budget == "2400 updates"]
        corrected = holm([c.p for c in own])
        return [dataclasses.replace(c, p_holm=p) for c, p in zip(own, corrected, strict=True)]

    for number in range(tables):
        table, outcomes = make_table(truths, seed=number, images=250)
        found = contrast_all(table, outcomes.__getitem__)
        table, outcomes = make_table({"null": 0.0, "zero": 0.0}, seed=10_000 + number, images=250, slope=0.0)
        null = contrast_all(table, outcomes.__getitem__)
        for kind, shift in kinds.items():
            own = of_kind(found, kind)
            covered[kind] += [c.low <= truths[c.method] + shift <= c.high for c in own if np.isfinite(c.low)]
            claimed[kind] += any(c.verdict in ("gain", "loss") for c in of_kind(null, kind))
    for kind in kinds:
        print(
            f"{kind}: coverage {np.mean(covered[kind]):.3f} of {len(covered[kind])}, claims in {claimed[kind]} null tables"
        )
        assert len(covered[kind]) > 2900 and 0.93 <= np.mean(covered[kind]) <= 0.97
        assert claimed[kind] / tables <= 0.07
