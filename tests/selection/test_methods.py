"""Every selector against its definition in METHODS.md: values by hand, then plain loops on random problems.

A greedy method is held to its definition step by step: each pick has the highest gain of the rows that are left, given
the picks before it. This is equality with the naive method, but for exact ties (the last two rows of a class are often
one), where the seed decides.
"""

import contextlib
import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from scipy.stats import beta as beta_distribution
from scipy.stats import spearmanr
from sklearn.cluster import KMeans

from easycoreset import Coreset, EasycoresetWarning, Scores, UsageError, choose
from easycoreset.hardness import load_hardness

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")  # lost classes are not the question

COLUMNS = [
    "el2n",
    "grand",
    "forgetting",
    "aum",
    "loss",
    "uncertainty",
    "vog",
    "entropy",
    "least_confidence",
    "prob_gap",
]
ALL_COLUMNS = [*COLUMNS, "aign", "curvature"]
OF_FEATURES = [
    "moderate",
    "prototypes",
    "herding",
    "kcenter",
    "facility",
    "graphcut",
    "craig",
    "gradmatch",
    "glister",
    "cal",
    "d2",
]
OF_PROBABILITIES = ["craig", "gradmatch", "glister", "cal"]
ALWAYS_BY_CLASS = ["herding", "facility", "graphcut", "craig", "gradmatch", "slocurves"]
CONTROLS = ["easycore", "easiest", "middle", "hardest", "random", "ccs", "stratified"]
METHODS = [*CONTROLS, *OF_FEATURES, "slocurves", *COLUMNS]
WEIGHTED = ["craig", "gradmatch"]


def table(features=None, labels=None, probabilities=None, columns=(), bias=True, adversarial=(None, None), size=None):
    """A table of scores; a flat list of features is one feature a sample."""
    arrays = [None if a is None else np.asarray(a) for a in (features, probabilities, *adversarial)]
    arrays = [a.astype(np.float32) if a is not None and a.dtype != np.float16 else a for a in arrays]
    features, probabilities, features_adv, probabilities_adv = (
        a[:, None] if a is not None and a.ndim == 1 else a for a in arrays
    )
    columns = {name: np.asarray(values, np.float32) for name, values in dict(columns).items()}
    if size is None:
        size = len(features) if features is not None else len(next(iter(columns.values())))
    labels = np.zeros(size, np.int64) if labels is None else np.asarray(labels, np.int64)
    classes = labels.max() + 1 if probabilities is None else probabilities.shape[1]
    return Scores(
        sample_ids=[f"s{i}" for i in range(size)],
        labels=labels,
        class_names=[f"class {k}" for k in range(classes)],
        n_obs=np.ones(size, np.int32),
        columns=columns,
        provenance={"fingerprint": "f", "split": "train"},
        features=features,
        probabilities=probabilities,
        features_adv=features_adv,
        probabilities_adv=probabilities_adv,
        bias=bias,
    )


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(seed, sizes=None, bias=None):
    """A small random problem: classes of unequal size, rows in random order."""
    rng = np.random.default_rng(seed)
    sizes = rng.permutation([4, 9, 14, 3])[: rng.integers(2, 5)] if sizes is None else np.asarray(sizes)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(labels)
    d = int(rng.integers(2, 6))
    classes = len(sizes)
    kinds = []
    for _ in range(2):  # clean, adversarial
        kinds.append(rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[labels])
        kinds.append(softmax(1.5 * rng.normal(size=(n, classes)) + np.eye(classes)[labels]))
    return table(
        kinds[0],
        labels,
        kinds[1],
        columns={name: rng.normal(size=n) for name in ALL_COLUMNS},
        bias=bool(seed % 2) if bias is None else bias,
        adversarial=kinds[2:],
    )


def problems(count=50, **options):
    """Yield `count` random tables, each with a fraction."""
    for seed in range(count):
        yield drawn(seed, **options), float(np.random.default_rng(1000 + seed).uniform(0.25, 0.9)), seed


def order_of(coreset):
    """Indices of the kept samples, first choice first."""
    return [int(i) for i in np.argsort(coreset.rank, kind="stable") if coreset.rank[i] >= 0]


def order(scores, method, fraction, **options):
    return order_of(choose(scores, method=method, fraction=fraction, **options))


def by_class(scores, coreset):
    """Yield, a class that is kept at all: its rows, and its picks in order as places among these rows."""
    chosen = order_of(coreset)
    for label in np.unique(scores.labels):
        rows = np.flatnonzero(scores.labels == label)
        picks = [int(np.flatnonzero(rows == i)[0]) for i in chosen if scores.labels[i] == label]
        if picks:
            yield rows, picks


def follows(picks, gains, size, tolerance=1e-5):
    """Whether every pick has the highest gain of what was left: gains(earlier picks) -> [size]."""
    left = np.ones(size, bool)
    for place, pick in enumerate(picks):
        gain = np.asarray(gains(picks[:place]), float)
        assert np.isfinite(gain[left]).all()
        if not left[pick] or gain[pick] < gain[left].max() - tolerance * np.abs(gain[left]).max():
            return False
        left[pick] = False
    return True


def distances(rows):
    rows = np.asarray(rows, float)
    found = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        for j in range(len(rows)):
            found[i, j] = np.sqrt(((rows[i] - rows[j]) ** 2).sum())
    return found


def neighbours(rows, k):
    """[n][k] the nearest other rows."""
    far = distances(rows)
    return [sorted((j for j in range(len(far)) if j != i), key=lambda j: far[i, j])[:k] for i in range(len(far))], far


def outer_gradients(features, probabilities, labels, bias):
    """[n, C * (d + 1)] last-layer gradients (p - 1_y) x (h, 1), written out."""
    found = []
    for h, p, y in zip(np.asarray(features, float), np.asarray(probabilities, float), labels, strict=True):
        error = p - np.eye(len(p))[y]
        found.append(np.outer(error, np.append(h, 1.0) if bias else h).ravel())
    return np.array(found)


# ---------------------------------------------------------------------------------------------- rules for all


@pytest.mark.parametrize("method", METHODS)
class TestRules:
    def test_counts_weights_and_ranks(self, method):
        scores = drawn(2)
        for fraction in (0.3, 1.0):
            for per_class in (None, True):
                coreset = choose(scores, method=method, fraction=fraction, per_class=per_class, seed=1)
                count = int(np.floor(fraction * len(scores) + 0.5))
                assert isinstance(coreset, Coreset) and coreset.keep.sum() == count
                assert sorted(coreset.rank[coreset.keep]) == list(range(count))
                assert (coreset.rank[~coreset.keep] == -1).all() and np.isnan(coreset.weight[~coreset.keep]).all()
                kept = coreset.weight[coreset.keep]
                assert kept.mean() == pytest.approx(1, abs=1e-5) and (kept > 0).all()
                assert method in WEIGHTED or (kept == 1).all()

    def test_class_quotas_and_interleaved_ranks(self, method):
        scores = drawn(5, sizes=[5, 11, 24])
        for spec, flag in ((method, True), (f"{method}:per_class=true", None)):
            coreset = choose(scores, method=spec, fraction=0.5, per_class=flag, seed=2)
            quotas = np.bincount(scores.labels[coreset.keep], minlength=3)
            assert sorted(quotas) in ([2, 6, 12], [3, 5, 12]) and quotas[2] == 12  # 2.5, 5.5, 12: equal remainders
            seen = np.zeros(3)
            keys = []
            for i in order_of(coreset):
                label = scores.labels[i]
                keys.append((seen[label] + 0.5) / quotas[label])
                seen[label] += 1
            assert keys == sorted(keys)
        if method in ALWAYS_BY_CLASS:
            assert order(scores, method, 0.5, seed=2) == order(scores, method, 0.5, seed=2, per_class=True)

    def test_equal_remainders_go_by_seed(self, method):
        scores = drawn(5, sizes=[5, 11, 24])
        quotas = {
            tuple(np.bincount(scores.labels[choose(scores, method=method, fraction=0.5, per_class=True, seed=s).keep]))
            for s in range(12)
        }
        assert quotas == {(2, 6, 12), (3, 5, 12)}

    def test_alike_samples_are_drawn_by_the_seed(self, method):
        n = 12
        alike = table(
            np.ones((n, 2)),
            probabilities=np.full((n, 2), 0.5),
            columns={name: np.ones(n) for name in ALL_COLUMNS},
        )
        kept = [order(alike, method, 0.25, seed=seed) for seed in range(12)]
        assert all(len(set(chosen)) == 3 for chosen in kept)
        assert len({tuple(sorted(chosen)) for chosen in kept}) > 4 and len({chosen[0] for chosen in kept}) > 3
        assert kept[5] == order(alike, method, 0.25, seed=5)

    def test_one_sample(self, method):
        one = table(np.ones((1, 2)), probabilities=[[0.4, 0.6]], columns={name: [1.0] for name in ALL_COLUMNS})
        assert order(one, method, 1.0) == [0]

    def test_one_sample_a_class(self, method):
        scores = drawn(3, sizes=[1, 1, 1, 1])
        assert len(order(scores, method, 0.5, per_class=True)) == 2
        assert sorted(order(scores, method, 1.0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", OF_FEATURES)
class TestFeatures:
    def test_absent_features_name_the_command(self, method):
        scores = table(size=6, columns={"forgetting": np.arange(6)})
        with pytest.raises(UsageError, match="score.*--save-features"):
            choose(scores, method=method, fraction=0.5)

    def test_nan_names_the_rows(self, method):
        scores = drawn(1)
        scores.features[7, 1] = np.nan
        with pytest.raises(UsageError, match=r"\b7\b"):
            choose(scores, method=method, fraction=0.5)

    def test_halves_are_read_as_floats(self, method):
        scores = drawn(4)
        half = Scores(**{**vars(scores), "features": scores.features.astype(np.float16)})
        single = Scores(**{**vars(scores), "features": half.features.astype(np.float32)})
        assert order(half, method, 0.6) == order(single, method, 0.6)

    def test_duplicates_are_never_kept_twice(self, method):
        scores = drawn(6)
        twice = np.arange(len(scores)) // 2 * 2
        scores = Scores(
            **{
                **vars(scores),
                "features": scores.features[twice],
                "labels": scores.labels[twice],
                "probabilities": scores.probabilities[twice],
            }
        )
        for fraction in (0.5, 0.9, 1.0):
            assert len(order(scores, method, fraction)) == int(np.floor(fraction * len(scores) + 0.5))


@pytest.mark.parametrize("method", OF_PROBABILITIES)
def test_absent_probabilities_name_the_command(method):
    with pytest.raises(UsageError, match="score.*--save-features"):
        choose(table(np.arange(6)), method=method, fraction=0.5)


@pytest.mark.parametrize("method", WEIGHTED)
def test_absent_adversarial_features_name_the_command(method):
    scores = drawn(1)
    clean = Scores(**{**vars(scores), "features_adv": None, "probabilities_adv": None})
    with pytest.raises(UsageError, match="score.*--save-features adversarial"):
        choose(clean, method=f"{method}:gradients=adversarial", fraction=0.5)
    scores.features_adv[5, 0] = np.nan
    with pytest.raises(UsageError, match=r"\b5\b"):
        choose(scores, method=f"{method}:gradients=adversarial", fraction=0.5)
    assert len(order(scores, method, 0.5)) > 0


@pytest.mark.parametrize(
    ("method", "column"),
    [
        ("easycore", "aign"),
        ("easiest", "aign"),
        ("ccs", "aum"),
        ("stratified", "aign"),
        ("d2", "forgetting"),
        ("slocurves", "curvature"),
        ("ccs:by=vog", "vog"),
        *((name, name) for name in COLUMNS),
    ],
)
def test_a_missing_column_names_the_command(method, column):
    with pytest.raises(UsageError, match=rf"{column}(.|\n)*easycoreset score "):
        choose(table(np.arange(6), columns={"other": np.arange(6)}), method=method, fraction=0.5)


@pytest.mark.parametrize(
    "method",
    [
        "ccs:beta=-0.1",
        "ccs:beta=1.5",
        "prototypes:end=middle",
        "craig:gradients=dirty",
        "gradmatch:gradients=dirty",
        "gradmatch:lam=-1",
        "kcenter:start=99",
        "kcenter:start=-1",
        "cal:k=0",
        "d2:k=0",
        "glister:rounds=0",
        "kcenter:part=0",
        "kcenter:by=aum",
    ],
)
def test_options_that_make_no_sense_are_wrong_use(method):
    with pytest.raises(UsageError):
        choose(drawn(0), method=method, fraction=0.5)


# ---------------------------------------------------------------------------------------------- columns and strata


@pytest.mark.parametrize("method", COLUMNS)
def test_column_names_keep_the_hard_end(method):
    values = np.array([3, np.nan, -1, 7, 0, -5], np.float32)
    scores = table(columns={method: values, "aign": -values})
    assert order(scores, method, 0.5) == [3, 0, 4]
    assert order(scores, method, 5 / 6) == [3, 0, 4, 2, 5]
    assert order(scores, method, 1.0)[-1] == 1  # never observed: last
    for scores, fraction, _ in problems(5):
        assert follows(order(scores, method, fraction), lambda _, s=scores: s[method], len(scores))


def test_slocurves_keep_the_lowest_curvature_of_each_class():
    scores = table(columns={"curvature": [5, 1, 3, 20, 10, np.nan]}, labels=[0, 0, 0, 1, 1, 1])
    coreset = choose(scores, method="slocurves", fraction=4 / 6)
    assert set(coreset.index) == {1, 2, 3, 4}
    assert coreset.rank[1] < coreset.rank[2] and coreset.rank[4] < coreset.rank[3]
    assert set(choose(scores, method="slocurves", fraction=2 / 6).index) == {1, 4}


def strata_of(values, strata):
    """[n] strata of equal width, the last closed."""
    low = values.min()
    high = values.max()
    return np.array([min(int((v - low) / (high - low) * strata), strata - 1) for v in values])


def strata_quotas(sizes, count):
    """(size, quota) of each stratum, sorted: equal shares, what small ones leave over goes to larger ones."""
    sizes = sorted(sizes)
    found = []
    for place, size in enumerate(sizes):
        quota = min(size, count // (len(sizes) - place))
        found.append((size, quota))
        count -= quota
    return sorted(found)


def test_ccs_quotas_by_hand():
    hardness = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 3.5, 4.2, 4.8, 7.0, 7.3, 7.6, 8.0]  # 8 strata of width 1: 6 0 0 1 2 0 0 4
    scores = table(columns={"aum": hardness})
    for seed in range(10):
        kept = choose(scores, method="ccs:beta=0", fraction=8 / 13, seed=seed).keep
        assert [kept[:6].sum(), kept[6], kept[7:9].sum(), kept[9:].sum()] == [3, 1, 2, 2]
    firsts = {tuple(choose(scores, method="ccs:beta=0", fraction=8 / 13, seed=seed).index) for seed in range(10)}
    assert len(firsts) > 3  # within a stratum the seed draws


def test_ccs_keeps_the_hardest_where_hardness_is_negative():
    scores = table(columns={"aum": [-8, -7.9, -7.8, -1]})
    assert all(choose(scores, method="ccs:beta=0", fraction=0.5, seed=seed).keep[3] for seed in range(20))


def test_ccs_against_its_definition():
    for scores, fraction, seed in problems():
        beta = (0.0, 0.1, 0.25)[seed % 3]
        count = int(np.floor(fraction * len(scores) + 0.5))
        hardness = scores["vog"].astype(float)
        dropped = int(np.floor(beta * len(scores)))
        if len(scores) - dropped < count:
            with pytest.raises(UsageError, match="beta"):
                choose(scores, method=f"ccs:by=vog:beta={beta}", fraction=fraction)
            continue
        coreset = choose(scores, method=f"ccs:by=vog:beta={beta}", fraction=fraction, seed=seed)
        rest = np.argsort(hardness)[: len(scores) - dropped]
        assert set(coreset.index) <= set(rest)
        stratum = dict(zip(rest, strata_of(hardness[rest], min(50, count)), strict=True))
        sizes = np.bincount(list(stratum.values()), minlength=min(50, count))
        quotas = np.bincount([stratum[i] for i in coreset.index], minlength=len(sizes))
        assert sorted(zip(sizes, quotas, strict=True)) == strata_quotas(sizes, count)
        seen = np.zeros(len(sizes))
        keys = []
        for i in order_of(coreset):  # ranks over strata are interleaved
            keys.append((seen[stratum[i]] + 0.5) / quotas[stratum[i]])
            seen[stratum[i]] += 1
        assert keys == sorted(keys)


def test_stratified_against_its_definition():
    for scores, fraction, seed in problems(25):
        count = int(np.floor(fraction * len(scores) + 0.5))
        coreset = choose(scores, method="stratified:by=vog", fraction=fraction, seed=seed)
        parts = np.array_split(np.argsort(scores["vog"]), min(50, count))  # the first ones are larger
        quotas = [int(coreset.keep[part].sum()) for part in parts]
        assert sorted(zip(map(len, parts), quotas, strict=True)) == strata_quotas([len(p) for p in parts], count)


def test_stratified_by_hand():
    scores = table(columns={"aign": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]})
    for seed in range(10):
        kept = choose(scores, method="stratified", fraction=0.7, seed=seed).keep  # strata of 2 2 2 1 1 1 1, easy first
        assert kept[:4].all() and [kept[4:6].sum(), kept[6:8].sum(), kept[8:].sum()] == [1, 1, 1]
    missing = table(columns={"aign": [1, np.nan, 2, np.nan, 3, 4]})
    assert set(choose(missing, method="stratified", fraction=4 / 6).index) == {0, 2, 4, 5}
    assert choose(missing, method="stratified", fraction=5 / 6).keep[[0, 2, 4, 5]].all()


@pytest.mark.parametrize(
    ("fraction", "dropped"), [(0.7, 0), (0.5, 0), (0.4, 0), (0.39, 10), (0.2, 10), (0.15, 10), (0.14, 30), (0.1, 30)]
)
def test_beta_left_out_follows_the_fraction(fraction, dropped):
    values = np.random.default_rng(0).permutation(100).astype(float)
    scores = table(columns={"aum": values})
    kept = set()
    for seed in range(60):
        kept |= {int(values[i]) for i in choose(scores, method="ccs", fraction=fraction, seed=seed).index}
    assert max(kept) == 99 - dropped  # the hardest are never kept, and no row more is dropped
    labels = np.repeat([0, 1], [50, 50])
    by_class = table(columns={"aum": np.r_[np.arange(50), np.arange(50)]}, labels=labels)
    kept = np.zeros(100, bool)
    for seed in range(60):
        kept |= choose(by_class, method="ccs", fraction=fraction, seed=seed, per_class=True).keep
    assert max(np.flatnonzero(kept[:50])) == max(np.flatnonzero(kept[50:])) == 49 - dropped // 2


def test_ccs_says_which_beta_it_took(caplog):
    with caplog.at_level("INFO", "easycoreset"):
        choose(table(columns={"aum": np.arange(100)}), method="ccs", fraction=0.2)
    assert "ccs" in caplog.text and "0.1" in caplog.text


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("method", ["ccs:beta=0", "stratified:by=aum", "d2:by=aum"])
def test_infinite_hardness_is_no_crash(method, value):
    scores = table([1, 2, 4, 8], columns={"aum": [1, 2, value, 3]})
    with contextlib.suppress(UsageError):  # it may be refused
        picks = order(scores, method, 1.0)
        assert sorted(picks) == [0, 1, 2, 3] and picks == order(scores, method, 1.0)


def test_ccs_refuses_a_beta_that_leaves_too_few():
    scores = table(columns={"aum": np.arange(10)})
    assert set(choose(scores, method="ccs:beta=0.4", fraction=0.6).index) == set(range(6))
    with pytest.raises(UsageError, match="beta"):
        choose(scores, method="ccs:beta=0.5", fraction=0.6)


def test_a_short_class_takes_dropped_rows_back_easiest_first():
    nan = np.nan  # class 0: 5 of 10 observed, floor(0.4 * 5) = 2 dropped, 3 remain for a quota of 4
    aum = np.r_[[1, nan, 5, nan, 2, nan, 4, nan, 3, nan], np.arange(30)]
    scores = table(columns={"aum": aum}, labels=np.repeat([0, 1], [10, 30]))
    for seed in range(10):
        coreset = choose(scores, method="ccs:beta=0.4", fraction=0.4, per_class=True, seed=seed)
        assert set(coreset.index[coreset.index < 10]) == {0, 4, 6, 8}
        assert (coreset.index[coreset.index >= 10] < 10 + 18).all()


# ---------------------------------------------------------------------------------------------- centres and distances


def test_moderate_by_hand():
    assert order(table([0, 1, 2.5, 4, 10]), "moderate", 1.0) == [1, 0, 2, 3, 4]  # d 3.5 2.5 1 .5 6.5, median 2.5
    firsts = {order(table([0, 2, 3.5, 8.5]), "moderate", 0.25, seed=seed)[0] for seed in range(20)}
    assert firsts == {0, 1}  # d 3.5 1.5 0 5: numpy's median is 2.5, between two


def distance_to_median(scores):
    found = np.zeros(len(scores))
    for label in np.unique(scores.labels):
        rows = np.flatnonzero(scores.labels == label)
        h = scores.features[rows].astype(float)
        d = np.array([np.sqrt(((x - h.mean(axis=0)) ** 2).sum()) for x in h])
        found[rows] = np.abs(d - np.median(d))
    return found


def test_moderate_against_its_definition():
    for scores, fraction, _ in problems():
        away = distance_to_median(scores)
        assert follows(order(scores, "moderate", fraction), lambda _, a=away: -a, len(scores))
        for rows, picks in by_class(scores, choose(scores, method="moderate", fraction=fraction, per_class=True)):
            assert follows(picks, lambda _, a=away[rows]: -a, len(rows))


def test_prototypes_by_hand():
    scores = table([0, 1, 5, 100, 100.5, 101.6], labels=[0, 0, 0, 1, 1, 1])  # from the centres: 2 1 3, .7 .2 .9
    assert order(scores, "prototypes", 1.0) == [2, 0, 1, 5, 3, 4]
    assert order(scores, "prototypes:end=hard", 1 / 3) == [2, 0]
    assert order(scores, "prototypes:end=easy", 1 / 3) == [4, 3]
    by_class = choose(scores, method="prototypes", fraction=1 / 3, per_class=True)
    assert set(by_class.index) == {2, 5}


def test_prototypes_against_scikit_learn():
    for scores, fraction, seed in problems(15):
        k = len(np.unique(scores.labels))
        found = KMeans(n_clusters=k, n_init=10, random_state=seed).fit(scores.features)
        centres = found.cluster_centers_[found.labels_]
        away = np.sqrt(((scores.features.astype(float) - centres) ** 2).sum(axis=1))
        picks = order(scores, "prototypes", fraction, seed=seed)
        assert follows(picks, lambda _, a=away: a, len(scores), tolerance=1e-4)
        coreset = choose(scores, method="prototypes:end=easy", fraction=fraction, per_class=True, seed=seed)
        for rows, picks in by_class(scores, coreset):
            h = scores.features[rows].astype(float)
            own = np.sqrt(((h - h.mean(axis=0)) ** 2).sum(axis=1))  # one centre a class is the mean
            assert follows(picks, lambda _, a=own: -a, len(rows))


def test_herding_by_hand():
    assert order(table([0, 1, 2, 10]), "herding", 1.0) == [2, 1, 3, 0]
    assert order(table([0, 1, 2, 10]), "herding", 0.5) == [2, 1]


def herding_gains(h):
    def gains(picked):
        return [-np.linalg.norm(h.mean(axis=0) - (h[picked].sum(axis=0) + x) / (len(picked) + 1)) for x in h]

    return gains


def test_herding_against_its_definition():
    for scores, fraction, _ in problems():
        for rows, picks in by_class(scores, choose(scores, method="herding", fraction=fraction)):
            assert follows(picks, herding_gains(scores.features[rows].astype(float)), len(rows))


def test_kcenter_by_hand():
    assert order(table([0, 1, 2, 10]), "kcenter", 1.0) == [2, 3, 0, 1]
    assert order(table([0, 1, 2, 10]), "kcenter:start=0", 1.0) == [0, 3, 2, 1]
    assert order(table([0, 1, 2, 10]), "kcenter:start=3", 0.5) == [3, 0]
    far = table([0, 1, 2, 10, 100, 101, 102, 110], labels=np.repeat([0, 1], 4))
    for rows, picks in by_class(far, choose(far, method="kcenter", fraction=1.0, per_class=True)):
        assert list(rows[picks] - rows[0]) == [2, 3, 0, 1]
    whole = table([0, 1, 2, 10, 100, 101, 102, 109], labels=np.repeat([0, 1], 4))
    assert order(whole, "kcenter", 0.5) == [3, 7, 0, 4]  # over all: mean 53.125, then 109, then 10, 9 away


def kcenter_gains(h, start=None):
    far = distances(h)
    to_mean = np.linalg.norm(h - h.mean(axis=0), axis=1)

    def gains(picked):
        if not picked:
            return -to_mean if start is None else np.arange(len(h)) == start
        return far[:, picked].min(axis=1)

    return gains


def test_kcenter_against_its_definition():
    for scores, fraction, seed in problems():
        h = scores.features.astype(float)
        assert follows(order(scores, "kcenter", fraction), kcenter_gains(h), len(h))
        start = seed % len(h)
        assert follows(order(scores, f"kcenter:start={start}", fraction), kcenter_gains(h, start), len(h))
        for rows, picks in by_class(scores, choose(scores, method="kcenter", fraction=fraction, per_class=True)):
            assert follows(picks, kcenter_gains(h[rows]), len(rows))


def test_kcenter_takes_nothing_twice():
    for features in (np.zeros((8, 3)), np.full((8, 3), 0.1), np.repeat([[0.1, 3], [7, 0.3]], 4, axis=0)):
        for seed in range(5):
            for method in ("kcenter", "kcenter:start=3"):
                assert sorted(order(table(features), method, 1.0, seed=seed)) == list(range(8))
                picked = order(table(features), method, 0.75, seed=seed)
                assert len(set(picked)) == 6
    two = table(np.repeat([[0.1, 3], [7, 0.3]], 4, axis=0))
    assert {i // 4 for i in order(two, "kcenter", 0.25)} == {0, 1}


# ---------------------------------------------------------------------------------------------- submodular


def facility_gains(far):
    similarity = far.max() - far

    def gains(picked):
        covered = similarity[:, picked].max(axis=1) if picked else np.zeros(len(far))
        return [sum(max(s - c, 0) for s, c in zip(similarity[:, j], covered, strict=True)) for j in range(len(far))]

    return gains


def cosine_similarity(h):
    found = np.zeros((len(h), len(h)))
    for i in range(len(h)):
        for j in range(len(h)):
            norms = np.sqrt((h[i] ** 2).sum() * (h[j] ** 2).sum())
            found[i, j] = (1 + (h[i] @ h[j] / norms if norms else 0.0)) / 2
    return found


def graphcut_value(s, lam, picked):
    picked = list(picked)
    return s[:, picked].sum() - lam * s[np.ix_(picked, picked)].sum()


def graphcut_gains(s, lam):
    def gains(picked):
        before = graphcut_value(s, lam, picked)
        return [graphcut_value(s, lam, [*picked, j]) - before for j in range(len(s))]

    return gains


def test_facility_by_hand():
    assert order(table([0, 1, 2, 5, 10]), "facility", 0.6) == [2, 4, 3]  # then 0 and 1 gain alike
    assert {tuple(order(table([0, 1, 2, 5, 10]), "facility", 1.0, seed=s)[3:]) for s in range(12)} == {(0, 1), (1, 0)}


def test_facility_is_plain_greedy():
    for scores, fraction, _ in problems():
        for rows, picks in by_class(scores, choose(scores, method="facility", fraction=fraction)):
            assert follows(picks, facility_gains(distances(scores.features[rows])), len(rows))


def test_facility_is_near_the_best():
    for seed in range(50):
        scores = drawn(seed, sizes=[8 + seed % 3])
        far = distances(scores.features)
        similarity = far.max() - far

        def value(picked, similarity=similarity):
            return similarity[:, list(picked)].max(axis=1).sum()

        best = max(value(subset) for subset in itertools.combinations(range(len(scores)), 3))
        picks = order(scores, "facility", 3 / len(scores))
        assert len(picks) == 3 and value(picks) >= (1 - 1 / np.e) * best - 1e-6


@pytest.mark.parametrize("lam", [0.5, 0, 1, 2])
def test_graphcut_is_plain_greedy(lam):
    negative = 0
    for scores, fraction, _ in problems(50 if lam == 0.5 else 20):
        method = "graphcut" if lam == 0.5 else f"graphcut:lam={lam}"
        for rows, picks in by_class(scores, choose(scores, method=method, fraction=fraction)):
            gains = graphcut_gains(cosine_similarity(scores.features[rows].astype(float)), lam)
            assert follows(picks, gains, len(rows))
            negative += gains(picks[:-1])[picks[-1]] < 0
    assert lam < 1 or negative  # the count was met all the same


def test_graphcut_is_near_the_best():
    for seed in range(50):
        scores = drawn(seed, sizes=[8 + seed % 3])
        s = cosine_similarity(scores.features.astype(float))
        best = max(graphcut_value(s, 0.5, subset) for subset in itertools.combinations(range(len(scores)), 3))
        picks = order(scores, "graphcut", 3 / len(scores))
        assert len(picks) == 3 and graphcut_value(s, 0.5, picks) >= (1 - 1 / np.e) * best - 1e-6


def test_graphcut_by_hand():
    # s of a zero vector is 1/2, with itself too: first gains 3/2 - 1/4 against 3/2 + s_ab - 1/2 of the others
    cos = -0.8
    scores = table([[1, 0], [cos, np.sqrt(1 - cos**2)], [0, 0]])
    assert order(scores, "graphcut", 1 / 3) == [2]
    # 0 and 1 alike, 2 at a right angle: after 0, the gains are 2.5 - 3 lam and 2 - 2 lam (ordered pairs count twice)
    scores = table([[1, 0], [1, 0], [0, 1]])
    for lam, second in ((0.25, {0, 1}), (0.75, {2}), (1, {2})):
        picks = order(scores, f"graphcut:lam={lam}", 2 / 3)
        assert picks[0] in (0, 1) and picks[1] in second
    assert set(order(scores, "graphcut:lam=5", 1.0)) == {0, 1, 2}


# ---------------------------------------------------------------------------------------------- gradient matching


def craig_sizes(far, picks):
    """Rows that each pick stands for; a pick stands for itself."""
    sizes = np.zeros(len(picks))
    for i in range(len(far)):
        sizes[picks.index(i) if i in picks else int(np.argmin(far[i, picks]))] += 1
    return sizes


def test_craig_by_hand():
    # p the same for all: the distance of two gradients is sqrt(.5) of the features' distance
    scores = table([0, 1, 2, 5, 10], probabilities=np.full((5, 2), 0.5))
    coreset = choose(scores, method="craig", fraction=0.4)
    assert order_of(coreset) == [2, 4] and coreset.weight[[2, 4]] == pytest.approx([1.6, 0.4])  # 4 and 1
    coreset = choose(scores, method="craig", fraction=0.6)
    assert order_of(coreset) == [2, 4, 3] and coreset.weight[[2, 4, 3]] == pytest.approx([1.8, 0.6, 0.6])  # 3, 1, 1
    # features all 0: without a bias every gradient is 0, with one it is p - 1_y
    p = np.array([0, 0.1, 0.2, 0.5, 1])
    probabilities = np.stack([1 - p, p], axis=1)
    assert order(table(np.zeros(5), probabilities=probabilities, bias=True), "craig", 0.6) == [2, 4, 3]
    without = table(np.zeros(5), probabilities=probabilities, bias=False)
    assert len({tuple(order(without, "craig", 0.6, seed=s)) for s in range(8)}) > 1


def test_craig_counts_a_picked_duplicate_for_itself():
    scores = table(np.ones(3), probabilities=np.full((3, 2), 0.5))
    for seed in range(5):
        weight = choose(scores, method="craig", fraction=2 / 3, seed=seed).weight
        assert sorted(weight[np.isfinite(weight)]) == pytest.approx([2 / 3, 4 / 3])  # sizes 1 and 2, never 0 and 3
        assert choose(scores, method="craig", fraction=1.0, seed=seed).weight == pytest.approx(np.ones(3))


@pytest.mark.parametrize("gradients", ["clean", "adversarial"])
def test_craig_against_its_definition(gradients):
    for scores, fraction, _ in problems(50 if gradients == "clean" else 15):
        coreset = choose(scores, method=f"craig:gradients={gradients}", fraction=fraction)
        tail = "" if gradients == "clean" else "_adv"
        h = getattr(scores, f"features{tail}")
        p = getattr(scores, f"probabilities{tail}")
        stood_for = np.full(len(scores), np.nan)
        for rows, picks in by_class(scores, coreset):
            far = distances(outer_gradients(h[rows], p[rows], scores.labels[rows], scores.bias))
            assert follows(picks, facility_gains(far), len(rows))
            sizes = craig_sizes(far, picks)
            assert sizes.sum() == len(rows)
            stood_for[rows[picks]] = sizes
        expected = stood_for[coreset.keep] / stood_for[coreset.keep].mean()
        assert coreset.weight[coreset.keep] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", WEIGHTED)
def test_adversarial_gradients_are_the_adversarial_arrays(method):
    differ = 0
    for scores, fraction, _ in problems(10):
        swapped = Scores(
            **{
                **vars(scores),
                "features": scores.features_adv,
                "probabilities": scores.probabilities_adv,
                "features_adv": scores.features,
                "probabilities_adv": scores.probabilities,
            }
        )
        adversarial = choose(scores, method=f"{method}:gradients=adversarial", fraction=fraction)
        clean = choose(swapped, method=f"{method}:gradients=clean", fraction=fraction)
        assert np.array_equal(adversarial.rank, clean.rank)
        assert np.array_equal(adversarial.weight, clean.weight, equal_nan=True)
        differ += not np.array_equal(adversarial.rank, choose(scores, method=method, fraction=fraction).rank)
    assert differ


def own_gradients(scores, rows):
    """[d + 1, n] gradients of the own class's logit, a column a row, divided by their mean norm; and their sum."""
    columns = []
    for i in rows:
        h = scores.features[i].astype(float)
        error = float(scores.probabilities[i, scores.labels[i]]) - 1
        columns.append(error * (np.append(h, 1.0) if scores.bias else h))
    a = np.array(columns).T
    mean = np.mean([np.linalg.norm(column) for column in a.T])
    a = a / mean if mean else a
    return a, a.sum(axis=1)


def refit(a, b, lam):
    """The w >= 0 that minimises norm(b - a w)^2 + lam norm(w)^2."""
    k = a.shape[1]
    return nnls(np.vstack([a, np.sqrt(lam) * np.eye(k)]), np.append(b, np.zeros(k)))[0]


def pursuit(a, b, lam, picks, batch, tolerance=1e-5):
    """Whether `picks` are those of the pursuit; how many of them it made before no inner product was positive."""
    done = []
    w = np.zeros(0)
    while len(done) < len(picks):
        products = a.T @ (b - a[:, done] @ w)
        size = np.abs(a.T @ b).max()
        here = picks[len(done) : len(done) + batch]
        for place, pick in enumerate(here):
            left = [i for i in range(a.shape[1]) if i not in done + here[:place]]
            best = max(products[left])
            if best <= tolerance * size:
                return True, len(done) + place
            if products[pick] < best - tolerance * size:
                return False, len(done) + place
        done += here
        w = refit(a[:, done], b, lam)
    return True, len(done)


def test_gradmatch_by_hand():
    # p_y = 1/2 and h along three axes: columns of norm 1.5, 1, .5, so w = c^2 / (c^2 + lam)
    scores = table(np.diag([3.0, 2, 1]), probabilities=np.full((3, 2), 0.5), bias=False)
    for lam in (0.5, 2, 0.01):
        coreset = choose(scores, method=f"gradmatch:lam={lam}", fraction=1.0)
        w = np.array([c**2 / (c**2 + lam) for c in (1.5, 1, 0.5)])
        assert order_of(coreset) == [0, 1, 2] and coreset.weight == pytest.approx(w / w.mean(), rel=1e-4)
    assert np.array_equal(*(choose(scores, method=m, fraction=1).weight for m in ("gradmatch", "gradmatch:lam=0.5")))
    # the third row points away from the class sum: nothing picks it, it fills the count
    scores = table([1, 2, -0.5], probabilities=np.full((3, 2), 0.5), bias=False)
    coreset = choose(scores, method="gradmatch", fraction=1.0)
    assert order_of(coreset) == [1, 0, 2] and (coreset.weight > 0).all()
    assert coreset.weight[2] <= coreset.weight[[0, 1]].min()


def test_gradmatch_where_no_row_has_a_gradient():
    scores = table(np.arange(6), probabilities=np.tile([1.0, 0.0], (6, 1)))
    coreset = choose(scores, method="gradmatch", fraction=0.5)
    assert len(coreset) == 3 and coreset.weight[coreset.keep] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("lam", [0.5, 0.01, 5])
def test_gradmatch_against_its_definition(lam):
    zeros = filled = 0
    for scores, fraction, _ in problems():
        method = "gradmatch" if lam == 0.5 else f"gradmatch:lam={lam}"
        coreset = choose(scores, method=method, fraction=fraction)
        expected = np.full(len(scores), np.nan)
        for rows, picks in by_class(scores, coreset):
            a, b = own_gradients(scores, rows)
            same, made = pursuit(a, b, lam, picks, batch=1)
            assert same
            if picks[made:]:  # a shortfall: by correlation with b
                assert follows(
                    picks[made:],
                    lambda _, c=a.T @ b, m=picks[:made]: np.where(np.isin(np.arange(len(c)), m), c.min() - 1, c),
                    len(rows),
                )
            w = refit(a[:, picks[:made]], b, lam)
            zeros += (w <= 1e-9).sum()
            filled += len(picks) - made
            w = np.append(w, np.zeros(len(picks) - made))
            w[w <= 1e-9] = w[w > 1e-9].min()
            expected[rows[picks]] = w
        kept = expected[coreset.keep]
        assert coreset.weight[coreset.keep] == pytest.approx(kept / kept.mean(), rel=1e-3, abs=1e-4)
    assert lam != 0.01 or (zeros and filled)


def test_gradmatch_picks_in_batches():
    for seed in range(3):
        scores = drawn(seed, sizes=[110, 10])
        coreset = choose(scores, method="gradmatch", fraction=0.6)
        for rows, picks in by_class(scores, coreset):
            a, b = own_gradients(scores, rows)
            batch = int(np.ceil(len(picks) / 50))
            assert batch == (2 if len(rows) == 110 else 1)
            same, made = pursuit(a, b, 0.5, picks, batch)
            assert same and made


# ---------------------------------------------------------------------------------------------- glister


def glister_gains(scores, validation, step_size):
    """gains(chosen) -> [n]: a row's theta_0-gradient times the validation gradient at the updated parameters."""
    h = np.hstack([scores.features.astype(float), np.full((len(scores), 1), float(scores.bias))])
    logits = np.log(scores.probabilities.astype(float))
    y = np.eye(logits.shape[1])[scores.labels]
    gradients = np.array([np.outer(e, x) for e, x in zip(scores.probabilities - y, h, strict=True)])

    def gains(chosen):
        step = -step_size * gradients[chosen].mean(axis=0) if len(chosen) else np.zeros_like(gradients[0])
        total = np.zeros_like(gradients[0])
        for v in validation:
            total += np.outer(softmax((logits[v] + step @ h[v])[None])[0] - y[v], h[v])
        return np.array([(total * g).sum() for g in gradients]) / len(validation)

    return gains


def in_rounds(picks, gains, size, rounds):
    """Whether `picks` follow `gains`, which change after every equal round only."""
    a_round = len(picks) // rounds
    for begin in range(0, len(picks), a_round):
        gain = gains(picks[:begin])
        here = picks[begin : begin + a_round]
        mask = np.where(np.isin(np.arange(size), picks[:begin]), -np.inf, gain)
        best = np.sort(mask)[::-1][: len(here)]
        if not np.allclose(gain[here], best, rtol=1e-4, atol=1e-5 * np.abs(gain).max()):
            return False
    return True


@pytest.mark.parametrize(("step_size", "rounds"), [(0.1, 20), (1, 20), (1, 3), (0, 20), (1, 1)])
def test_glister_against_its_definition_for_some_validation_rows(step_size, rounds):
    found = set()
    for seed in range(8):
        scores = drawn(seed, sizes=[4, 5, 6])  # 10% of these, at least one a class: one each
        picks = order(scores, f"glister:step_size={step_size}:rounds={rounds}", 0.6, seed=seed)  # 9 of 15
        fitting = [
            draw
            for draw in itertools.product(*(np.flatnonzero(scores.labels == label) for label in range(3)))
            if in_rounds(picks, glister_gains(scores, draw, step_size), 15, min(rounds, len(picks)))
        ]
        assert fitting
        found.add(tuple(int(np.flatnonzero(np.flatnonzero(scores.labels == k) == fitting[0][k])[0]) for k in range(3)))
    assert len(found) > 1  # a seeded draw, not the first of each class


def test_glister_validation_follows_the_seed():
    scores = drawn(0, sizes=[12, 12])
    assert len({tuple(order(scores, "glister", 0.3, seed=seed)) for seed in range(8)}) > 2


def alike_classes():
    """Classes of 10, 20 and 30 rows, all rows of a class alike: any draw of validation rows is the same."""
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    h = np.array([[3.0, 0.5], [-1, 2.5], [0.5, -2]])[labels]
    p = np.array([[0.3, 0.3, 0.4], [0.2, 0.4, 0.4], [0.3, 0.25, 0.45]])[labels]
    return table(h, labels, p)


@pytest.mark.parametrize(("count", "rounds"), [(18, 20), (20, 20), (40, 20), (12, 4)])
def test_glister_where_any_validation_rows_are_the_same(count, rounds):
    scores = alike_classes()
    validation = [0, 10, 11, 30, 31, 32]  # 10% of each class
    orders = {}
    for step_size in (0.1, 2, 0):
        picks = order(scores, f"glister:step_size={step_size}:rounds={rounds}", count / 60)
        gains = glister_gains(scores, validation, step_size)
        assert in_rounds(picks, gains, 60, min(rounds, count))
        orders[step_size] = scores.labels[picks].tolist()
    assert orders[2] != orders[0]  # the update runs
    assert orders[0] == sorted(orders[0], key=orders[0].index)  # and without it one class comes after the other


def test_glister_updates_between_rounds():
    scores = drawn(1, sizes=[20, 15, 15])
    changed = 0
    for seed in range(5):
        once, off, default, large = (
            order(scores, f"glister{options}", 0.4, seed=seed)
            for options in (":rounds=1", ":step_size=0", "", ":step_size=3")
        )
        assert once == off  # the same ranking by the gains at theta_0
        assert default == order(scores, "glister:rounds=20:step_size=0.1", 0.4, seed=seed)
        changed += set(large) != set(off)
    assert changed


# ---------------------------------------------------------------------------------------------- neighbours


def mean_divergence(h, p, k):
    """[n] mean over the k nearest other rows of KL(p_neighbour, p_x)."""
    near, _ = neighbours(h, k)
    p = np.maximum(np.asarray(p, float), 1e-12)
    return np.array([np.mean([(p[j] * np.log(p[j] / p[i])).sum() for j in near[i]]) for i in range(len(p))])


def test_cal_by_hand():
    # k = 1: 0 and 1 are neighbours, 2 and 3. KL((.1, .9), (.5, .5)) = .368, the other way .511; .02 for 2 and 3
    p = np.array([[0.5, 0.5], [0.1, 0.9], [0.5, 0.5], [0.6, 0.4]])
    scores = table([0, 1, 10, 11], probabilities=p)
    assert order(scores, "cal:k=1", 0.5) == [1, 0]
    assert set(order(scores, "cal:k=1", 0.25)) == {1}
    # p is clipped at 1e-12: 0 there gains ln 1e12 three times, 1e-9 only ln 1e9; 1e-20 is as 0
    kept = []
    for small in (1e-9, 1e-20):
        p = np.array([[1, 0], [0, 1], [1, 0], [small, 1]])
        near = table([0, 1, 10, 11], probabilities=p)
        kept.append({tuple(choose(near, method="cal:k=1", fraction=0.75, seed=seed).index) for seed in range(12)})
    assert kept[0] == {(0, 1, 2)} and len(kept[1]) > 1


def test_cal_against_its_definition():
    for scores, fraction, _ in problems():
        for method, k in (("cal", 10), ("cal:k=3", 3)):
            gain = mean_divergence(scores.features, scores.probabilities, k)
            assert follows(order(scores, method, fraction), lambda _, g=gain: g, len(scores))
        for rows, picks in by_class(scores, choose(scores, method="cal", fraction=fraction, per_class=True)):
            if len(rows) > 1:  # of a class of 4 there are 3 neighbours
                gain = mean_divergence(scores.features[rows], scores.probabilities[rows], 10)
                assert follows(picks, lambda _, g=gain: g, len(rows))


def test_a_duplicate_is_a_neighbour_and_the_row_itself_is_not():
    p = softmax(np.random.default_rng(0).normal(size=(12, 3)))
    p[6:] = p[6]
    scores = table(np.repeat([0, 5], 6), probabilities=p, columns={"forgetting": np.r_[np.arange(6), np.zeros(6)]})
    for seed in range(5):
        assert set(order(scores, "cal:k=1", 0.5, seed=seed)) == set(range(6))
    # d2, k = 1: rows 0 and 1 are each other's only neighbour at distance 0 (w = 1), so picking one empties the other
    pair = table([[1, 0], [2, 0], [0, 1], [-1, 0]], columns={"forgetting": [8, 10, 5, 0]})
    assert order(pair, "d2:k=1", 0.5) in ([0, 2], [1, 2])  # 1.8 and 1.8, the other falls to 0


def d2_scores(h, hardness, k, gamma):
    """Hardness in [0, 1], the same after passing, and the weighted edges."""
    h = np.asarray(h, float)
    h = np.array([row / np.linalg.norm(row) if np.linalg.norm(row) else row for row in h])
    near, far = neighbours(h, k)
    low = np.nanmin(hardness)
    high = np.nanmax(hardness)
    raw = np.array([0.0 if np.isnan(x) or high == low else (x - low) / (high - low) for x in hardness])
    weight = [[np.exp(-gamma * far[i, j] ** 2) for j in near[i]] for i in range(len(h))]
    passed = np.array(
        [raw[i] + sum(w * raw[j] for w, j in zip(weight[i], near[i], strict=True)) for i in range(len(h))]
    )
    return raw, passed, near, weight


def d2_gains(h, hardness, k=10, gamma=1.0):
    _, passed, near, weight = d2_scores(h, hardness, k, gamma)

    def gains(picked):
        score = passed.copy()
        for pick in picked:
            at = score[pick]
            for w, j in zip(weight[pick], near[pick], strict=True):
                score[j] -= w * at
        return np.where(np.isnan(hardness), score.min() - 1, score)

    return gains


def test_d2_by_hand():
    # k = 1 on the circle at 0, 60, 180 and 240 degrees, w = 1/2 for 60 degrees: pairs (0, 1) and (2, 3)
    angles = np.deg2rad([0, 60, 180, 240])
    h = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [0.2], [30]]  # lengths do not matter
    scores = table(h, columns={"forgetting": [1, 0.8, 0.75, 0]})
    # 1.4, 1.3, .75, .375; after 0: 1 falls by .7 to .6; after 2: 3 falls by .375 to 0
    assert order(scores, f"d2:k=1:gamma={np.log(2)}", 1.0) == [0, 2, 1, 3]
    assert order(scores, f"d2:k=1:gamma={np.log(2)}", 0.25) == [0]
    scores = table(h, columns={"forgetting": [np.nan, 0.8, 0.75, 0]})
    assert order(scores, f"d2:k=1:gamma={np.log(2)}", 1.0)[-1] == 0


@pytest.mark.parametrize("missing", [False, True])
def test_d2_against_its_definition(missing):
    for scores, fraction, seed in problems():
        rng = np.random.default_rng(seed)
        if missing:
            scores.columns["forgetting"][rng.choice(len(scores), 3, replace=False)] = np.nan
        hardness = scores["forgetting"].astype(float)
        for options, k, gamma in (("", 10, 1.0), (":k=3:gamma=0.3", 3, 0.3), (":k=1", 1, 1.0)):
            observed = int(np.isfinite(hardness).sum())
            picks = order(scores, f"d2{options}", fraction)
            assert follows(picks[:observed], d2_gains(scores.features, hardness, k, gamma), len(scores)), (
                seed,
                options,
            )
            assert np.isfinite(hardness[picks[:observed]]).all()
        if not missing:
            by_label = choose(scores, method="d2", fraction=fraction, per_class=True)
            for rows, picks in by_class(scores, by_label):
                assert follows(picks, d2_gains(scores.features[rows], hardness[rows]), len(rows))


def test_d2_takes_another_column():
    for scores, fraction, _ in problems(5):
        gains = d2_gains(scores.features, scores["aum"].astype(float))
        assert follows(order(scores, "d2:by=aum", fraction), gains, len(scores))


def warned_of_the_graph(scores, method):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        choose(scores, method=method, fraction=0.5)
    return any(issubclass(w.category, EasycoresetWarning) and "graph" in str(w.message) for w in caught)


def test_d2_warns_where_the_graph_changes_nothing():
    seen = set()
    for scores, _, seed in problems(20):
        for gamma in (0.1, 1, 3, 1e4):
            raw, passed, *_ = d2_scores(scores.features, scores["forgetting"].astype(float), 10, gamma)
            alike = spearmanr(raw, passed).statistic
            if abs(alike - 0.99) > 1e-3:
                assert warned_of_the_graph(scores, f"d2:gamma={gamma}") == (alike > 0.99), (seed, gamma, alike)
                seen.add((gamma, bool(alike > 0.99)))
    assert {(1e4, True), (0.1, False)} <= seen


def test_d2_where_all_are_equally_hard():
    scores = drawn(0)
    scores.columns["forgetting"][:] = 3
    assert len(order(scores, "d2", 0.5)) == int(np.floor(0.5 * len(scores) + 0.5))


# ---------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("method", ["kcenter", "facility", "craig", "cal", "d2", "herding", "graphcut", "gradmatch"])
def test_parts_are_an_approximation_of_the_same_size(method):
    scores = drawn(7, sizes=[12, 20, 30])
    whole = choose(scores, method=method, fraction=0.4)
    assert np.array_equal(whole.rank, choose(scores, method=f"{method}:part=62", fraction=0.4).rank)
    parts = choose(scores, method=f"{method}:part=8", fraction=0.4)
    assert len(parts) == 25 and parts.weight[parts.keep].mean() == pytest.approx(1)
    assert not np.array_equal(whole.rank, parts.rank)
    assert not np.array_equal(parts.rank, choose(scores, method=f"{method}:part=8", fraction=0.4, seed=1).rank)
    if method == "craig":  # sizes of the clusters sum to the size of the class
        kept = np.array([parts.weight[parts.keep & (scores.labels == k)].sum() for k in range(3)])
        assert kept / kept.sum() == pytest.approx(np.array([12, 20, 30]) / 62, rel=1e-5)


# ---------------------------------------------------------------------------------------------- ties, more rows


def gains_by_definition(method, scores, rows):
    h = scores.features[rows].astype(float)
    if method == "craig":
        outer = outer_gradients(h, scores.probabilities[rows], scores.labels[rows], scores.bias)
        return facility_gains(distances(outer))
    makers = {
        "facility": lambda: facility_gains(distances(h)),
        "graphcut": lambda: graphcut_gains(cosine_similarity(h), 0.5),
        "kcenter": lambda: kcenter_gains(h),
        "herding": lambda: herding_gains(h),
    }
    return makers[method]()


@pytest.mark.parametrize("method", ["facility", "graphcut", "craig", "kcenter", "herding"])
def test_greedy_is_greedy_on_a_grid_full_of_ties(method):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat([0, 1, 2], [6, 10, 15]))
        scores = table(rng.integers(-1, 2, (31, 2)), labels, rng.integers(1, 3, (31, 3)) / 4)
        for rows, picks in by_class(scores, choose(scores, method=method, fraction=0.8, per_class=True, seed=seed)):
            assert follows(picks, gains_by_definition(method, scores, rows), len(rows))


@pytest.mark.parametrize("method", ["facility", "craig", "kcenter", "cal", "d2", "moderate"])
def test_more_rows(method):
    """2100 rows, for what is done in blocks; the definitions as array operations."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1], [300, 1800]))
    p = softmax(rng.normal(size=(2100, 3)))
    scores = table(rng.normal(size=(2100, 4)), labels, p, columns={"forgetting": rng.random(2100)})
    picks = order(scores, method, 40 / 2100)
    h = scores.features.astype(float)
    p = scores.probabilities.astype(float)
    if method in ("facility", "craig"):
        for rows, chosen in by_class(scores, choose(scores, method=method, fraction=40 / 2100)):
            outer = h[rows] if method == "facility" else outer_gradients(h[rows], p[rows], labels[rows], True)
            far = cdist(outer, outer)
            s = far.max() - far
            covered = np.zeros(len(rows))
            for place, pick in enumerate(chosen):
                gain = np.maximum(s - covered[:, None], 0).sum(axis=0)
                gain[chosen[:place]] = -1
                assert gain[pick] >= gain.max() * (1 - 1e-5)
                covered = np.maximum(covered, s[:, pick])
    elif method == "kcenter":
        far = cdist(h, h)
        assert picks[0] == np.argmin(np.linalg.norm(h - h.mean(axis=0), axis=1))
        for place in range(1, 40):
            gap = far[:, picks[:place]].min(axis=1)
            assert gap[picks[place]] >= gap.max() - 1e-5
    elif method == "moderate":
        away = distance_to_median(scores)
        assert follows(picks, lambda _: -away, 2100, tolerance=1e-6)
    else:
        unit = h / np.linalg.norm(h, axis=1, keepdims=True) if method == "d2" else h
        far = cdist(unit, unit)
        np.fill_diagonal(far, np.inf)
        near = np.argsort(far, axis=1)[:, :10]
        if method == "cal":
            gain = (p[near] * np.log(p[near] / p[:, None])).sum(axis=2).mean(axis=1)
            assert follows(picks, lambda _: gain, 2100)
        else:
            raw = scores["forgetting"].astype(float)
            raw = (raw - raw.min()) / (raw.max() - raw.min())
            weight = np.exp(-(np.take_along_axis(far, near, axis=1) ** 2))
            score = raw + (weight * raw[near]).sum(axis=1)
            left = np.ones(2100, bool)
            for pick in picks:
                assert score[pick] >= score[left].max() - 1e-5
                left[pick] = False
                score[near[pick]] -= weight[pick] * score[pick]


def test_ccs_takes_the_cutoffs_of_its_data_set(caplog):
    for data, fraction, beta in (
        ("cifar100:DIR", 0.7, 0.1),
        ("cifar100:DIR", 0.5, 0.2),
        ("cifar100:DIR", 0.1, 0.5),
        ("hf:imagenet-1k", 0.3, 0.2),
        ("hf:imagenet-1k", 0.1, 0.3),
        ("cifar10:DIR", 0.3, 0.1),
        ("photos", 0.3, 0.1),
    ):
        scores = table(columns={"aum": np.arange(100)})
        scores.provenance["data"] = data
        caplog.clear()
        with caplog.at_level("INFO", "easycoreset"):
            choose(scores, method="ccs", fraction=fraction)
        assert f"beta={beta:g}," in caplog.text, (data, fraction)


# DUAL, TDDS, both ends, quotas by recall


def naive_dual(p, first=30):
    """Mean over windows of 10 of the first epochs of the deviation times the mean error, for one sample."""
    p = np.asarray(p, np.float64)[:first]
    windows = [p[k : k + 10] for k in range(len(p) - 9)] if len(p) >= 10 else [p]
    return np.mean([np.std(w, ddof=1) * (1 - np.mean(w)) for w in windows])


def folded(name, values):
    """The fold of a measure, of values [epochs, N]."""
    fold = load_hardness([name])[0].fold()
    for epoch in values:
        fold.add(epoch)
    return fold.result()


def test_dual_is_the_windows_deviation_times_its_mean_error():
    np.testing.assert_allclose(folded("dual", np.array([[0.2], [0.6]])), [0.4 / np.sqrt(2) * 0.6], rtol=1e-6)
    rng = np.random.default_rng(0)
    for epochs in (2, 9, 10, 11, 29, 30, 31, 50):
        p = rng.random((epochs, 20))
        np.testing.assert_allclose(folded("dual", p), [naive_dual(row) for row in p.T], rtol=1e-5)
        np.testing.assert_allclose(folded("dual:first=15", p), [naive_dual(row, 15) for row in p.T], rtol=1e-5)
        np.testing.assert_allclose(folded("mean_error", p), 1 - p[:30].mean(0), rtol=1e-5)
    gaps = rng.random((12, 1))
    with_gap = np.insert(gaps, 5, np.nan, axis=0)
    np.testing.assert_array_equal(folded("dual", gaps), folded("dual", with_gap))
    assert np.isnan(folded("dual", np.array([[0.5]]))).all()


def naive_tdds(p):
    """As the authors' code computes it, for one sample's probabilities [epochs, classes]."""
    p = np.asarray(p, np.float64)
    d = [np.abs(p[t] * np.log((p[t] + 1e-8) / (p[t - 1] + 1e-8))).sum() for t in range(1, len(p))]
    values = [np.linalg.norm(np.array(d[k : k + 9]) - np.mean(d[k : k + 9])) for k in range(len(d) - 8)]
    count = len(values)
    return sum(0.9 * 0.1 ** (count - 1 - j) * value for j, value in enumerate(values)) if values else np.nan


def test_tdds_is_the_authors_moving_average_of_windows():
    rng = np.random.default_rng(1)
    for epochs in (9, 10, 11, 25):
        p = rng.dirichlet(np.ones(4), (epochs, 6))
        expected = [naive_tdds(p[:, i]) for i in range(6)]
        np.testing.assert_allclose(folded("tdds", torch.from_numpy(p)), expected, rtol=1e-5)
        assert np.isnan(expected).all() == (epochs == 9)
    still = np.tile(rng.dirichlet(np.ones(4), (1, 3)), (12, 1, 1))
    np.testing.assert_allclose(folded("tdds", torch.from_numpy(still)), 0, atol=1e-12)
    steady = np.array([[[0.5 + 0.4 * (-1) ** t, 0.5 - 0.4 * (-1) ** t]] for t in range(12)])
    np.testing.assert_allclose(folded("tdds", torch.from_numpy(steady)), 0, atol=1e-6)  # always as much


def test_dual_draws_by_score_and_density():
    """Over 4,000 draws of one of three samples: in proportion to score * Beta(m; a, b), by its standard errors."""
    score = np.array([0.1, 0.2, 0.3])
    m = np.array([0.2, 0.6, 0.9])
    scores = table(columns={"dual": score, "mean_error": 1 - m})
    b = 15 * (1 - m.mean()) * (1 - (2 / 3) ** 4)
    weights = score * beta_distribution.pdf(m, 16 - b, b)
    expected = weights / weights.sum()
    draws = [int(choose(scores, method="dual", fraction=1 / 3, seed=seed).index[0]) for seed in range(4000)]
    share = np.bincount(draws, minlength=3) / 4000
    assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000) + 1e-9).all()
    assert choose(scores, method="dual:sample=false", fraction=2 / 3).index.tolist() == [1, 2]
    unseen = table(columns={"dual": [np.nan, 0.0, 0.3], "mean_error": [np.nan, 0.5, 0.5]})
    for seed in range(20):
        assert choose(unseen, method="dual", fraction=2 / 3, seed=seed).index.tolist() == [1, 2]


def test_dual_prunes_towards_easier_samples_the_more_it_prunes():
    rng = np.random.default_rng(0)
    error = rng.random(400)
    scores = table(columns={"dual": rng.random(400), "mean_error": error})
    kept = {
        f: np.mean([error[choose(scores, method="dual", fraction=f, seed=s).index].mean() for s in range(20)])
        for f in (0.1, 0.5)
    }
    assert kept[0.1] < kept[0.5]


def test_double_end_drops_the_hardest_then_keeps_the_hardest_of_the_rest():
    scores = table(columns={"aign": np.arange(10), "aum": -np.arange(10)})
    assert choose(scores, method="double-end:beta=0.25", fraction=0.3).index.tolist() == [5, 6, 7]
    assert choose(scores, method="double-end:beta=0.0:by=aum", fraction=0.3).index.tolist() == [0, 1, 2]
    assert choose(scores, method="double-end:beta=0.5", fraction=0.5).index.tolist() == [0, 1, 2, 3, 4]
    for method in ("double-end", "double-end:beta=1.0", "double-end:beta=0.6"):
        with pytest.raises(UsageError, match="beta"):
            choose(scores, method=method, fraction=0.5)


def test_quotas_by_recall_keep_more_of_what_is_misclassified():
    labels = np.repeat([0, 1, 2], [20, 20, 10])
    error = np.r_[np.full(20, 0.1), np.full(20, 0.3), np.full(10, 0.8)]
    columns = {"mean_error": error, "aign": np.arange(50)}
    scores = table(columns=columns, labels=labels)
    recall = [(20 * 0.9 + 0.5) / 21, (20 * 0.7 + 0.5) / 21, (10 * 0.2 + 0.5) / 11]
    demand = np.array([20, 20, 10]) * (1 - np.array(recall))
    expected = 15 * demand / demand.sum()
    kept = choose(scores, method="easycore:quota=recall", fraction=0.3)
    counts = np.bincount(labels[kept.keep])
    assert (np.abs(counts - expected) < 1).all() and counts.sum() == 15
    for label in range(3):  # within each class the method's own choice
        rows = np.flatnonzero(labels == label)
        assert kept.index[labels[kept.index] == label].tolist() == rows[: counts[label]].tolist()
    capped = choose(scores, method="random:quota=recall", fraction=0.8)
    assert np.bincount(labels[capped.keep])[2] == 10 and len(capped) == 40
    assert kept.provenance["method"] == "easycore:quota=recall"
    p = np.tile([0.6, 0.3, 0.1], (50, 1))  # class 0 is right, the others wrong
    robust = choose(replace(scores, probabilities_adv=p), method="random:quota=recall:recall=robust", fraction=0.4)
    assert np.bincount(labels[robust.keep], minlength=3)[0] <= 1
    for method in ("random:quota=all", "random:quota=recall:recall=mine", "random:recall=robust"):
        with pytest.raises(UsageError, match="quota|recall"):
            choose(scores, method=method, fraction=0.3)


def test_ccs_by_recall_has_one_beta_for_all_classes(caplog):
    labels = np.repeat([0, 1], [100, 100])
    columns = {"mean_error": np.repeat([0.1, 0.6], 100), "aum": np.tile(np.arange(100), 2)}
    scores = table(columns=columns, labels=labels)
    with caplog.at_level("INFO", "easycoreset"):
        kept = choose(scores, method="ccs:quota=recall", fraction=0.15)
    assert caplog.text.count("beta=") == 1 and "beta=0.1," in caplog.text
    assert len(kept) == 30 and scores["aum"][kept.keep].max() < 90


def test_double_end_counts_observed_rows():
    aign = np.r_[np.arange(10.0), np.full(10, np.nan)]
    assert choose(table(columns={"aign": aign}), method="double-end:beta=0.4", fraction=0.3).index.tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_dual_warns_of_short_schedules(caplog):
    scores = table(columns={"dual": np.random.default_rng(0).random(20), "mean_error": np.full(20, 0.5)})
    for epochs, warns in ((15, True), (60, False)):
        scores.provenance["options"] = {"epochs": epochs}
        caplog.clear()
        choose(scores, method="dual", fraction=0.5)
        assert ("60 epochs" in caplog.text) == warns


def test_features_that_no_method_reads_are_refused(tmp_path):
    np.save(tmp_path / "h.npy", np.zeros((20, 2)))
    with pytest.raises(UsageError, match="features"):
        choose(table(columns={"aign": np.arange(20)}), method="easycore", fraction=0.5, features=tmp_path / "h.npy")
