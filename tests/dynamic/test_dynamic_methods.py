"""Dynamic methods: planted losses, counts and expectations that follow from their definitions."""

import numpy as np
import pytest

from easycoreset import UsageError
from easycoreset.dynamic import (
    DYNAMIC_METHODS,
    LOSS,
    EpochState,
    canonical_method,
    check_choice,
    check_fraction,
    columns_of,
    has_own_share,
    is_dynamic,
    load_dynamic_method,
    require_static,
)
from easycoreset.dynamic.chooser import DynamicChooser
from easycoreset.selection.geometry import Gradients, GradientSum
from easycoreset.tables import Scores

N = 40


class PlantedPasses:
    """Passes over planted values; counts how often each was asked for."""

    def __init__(self, loss=None, n=N, seed=0):
        rng = np.random.default_rng(seed)
        self.loss = rng.random(n).astype(np.float32) if loss is None else np.asarray(loss, np.float32)
        self.labels = (np.arange(len(self.loss)) % 3).astype(np.int64)
        self.terms = tuple(
            Gradients(rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 4)).astype(np.float32))
            for _ in range(2)
        )
        self.asked = []

    def refresh(self, column, clean):
        self.asked.append((column, clean))
        return self.loss

    def table(self, selector):
        self.asked.append("table")
        probabilities = np.abs(self.terms[0].error) / np.abs(self.terms[0].error).sum(1, keepdims=True)
        n = len(self.loss)
        return Scores(
            sample_ids=[str(i) for i in range(n)],
            labels=self.labels,
            class_names=["0", "1", "2"],
            n_obs=np.ones(n, np.int32),
            columns={"aign": self.loss},
            features=self.terms[0].inputs,
            probabilities=probabilities,
        )

    def gradients(self):
        self.asked.append("gradients")
        return GradientSum(self.terms)


def state(**more):
    passes = more.get("passes")
    labels = passes.labels if passes is not None else (np.arange(N) % 3).astype(np.int64)
    facts = {"fraction": 0.25, "seed": 0, "epoch": 1, "progress": 0.0, "batch_size": 8, "labels": labels}
    present = more.pop("present", {LOSS: np.full(N, np.nan, np.float32)})
    return EpochState(**(facts | {"present": present} | more))


def choose(spec, **more):
    return check_choice(load_dynamic_method(spec)[1](state(**more)), N, spec)


@pytest.mark.parametrize("name", DYNAMIC_METHODS)
def test_a_method_gives_the_same_rows_for_the_same_state_and_touches_nothing(name):
    method = load_dynamic_method(name)[1]
    rng = np.random.default_rng(5)
    loss = rng.random(N).astype(np.float32)
    loss[:3] = np.nan  # rows that were never trained on
    fraction = None if has_own_share(method) else 0.25
    check_fraction(name, method, fraction)
    for epoch, progress in ((1, 0.0), (2, 0.3), (7, 0.6), (9, 0.95)):
        choices = []
        for _ in range(2):
            before = np.random.get_state()[1].copy()
            now = state(fraction=fraction, epoch=epoch, progress=progress, present={LOSS: loss}, passes=PlantedPasses())
            choices.append(check_choice(method(now), N, name))
            assert np.array_equal(np.random.get_state()[1], before)
        first, second = choices
        np.testing.assert_array_equal(first.rows, second.rows)
        assert len(np.unique(first.rows)) == len(first.rows) >= 1
        if first.weight is not None:
            np.testing.assert_array_equal(first.weight, second.weight)
            assert getattr(method, "has_weights", None) is not False
    assert LOSS in columns_of(method) and is_dynamic(name) and canonical_method(name) == name


@pytest.mark.parametrize(("fraction", "epochs"), [(0.25, 4), (0.3, 4), (1.0, 1), (0.5, 2)])
def test_rs2_sees_every_sample_once_before_any_comes_again(fraction, epochs):
    """In a pass of ceil(N / count) epochs; where the last has too few left, its first samples come again."""
    count = int(np.floor(fraction * N + 0.5))
    for number in range(3):
        rows = [choose("rs2", fraction=fraction, epoch=number * epochs + 1 + epoch).rows for epoch in range(epochs)]
        assert all(len(np.unique(part)) == len(part) == count for part in rows)
        seen = np.bincount(np.concatenate(rows), minlength=N)
        again = epochs * count - N
        assert (seen >= 1).all() and (seen == 2).sum() == again
        np.testing.assert_array_equal(np.flatnonzero(seen == 2), np.sort(rows[0][:again]))
    first, second = (choose("rs2", fraction=fraction, epoch=1 + k * epochs).rows for k in range(2))
    assert not np.array_equal(first, second)  # another permutation


def test_rs2_variants():
    by_class = [choose("rs2:per_class=true", epoch=epoch).rows for epoch in range(1, 6)]
    for rows in by_class:
        assert sorted(np.bincount(rows % 3).tolist()) == [3, 3, 4]
    assert len(np.unique(np.concatenate(by_class))) == N  # five epochs of a quota of 3 are a pass of 14 or fewer
    draws = [choose("rs2:replace=true", epoch=epoch).rows for epoch in range(1, 401)]
    assert all(len(np.unique(rows)) == 10 for rows in draws)
    times = np.bincount(np.concatenate(draws), minlength=N)
    assert abs(times - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)
    assert len(np.unique(np.concatenate(draws[:4]))) < N  # 40 rows without overlap would be a miracle


def test_infobatch_expects_the_gradient_of_all_data():
    """Over 2,000 draws: each coordinate of E[sum w g] is sum g within four of its standard errors."""
    rng = np.random.default_rng(0)
    loss = rng.exponential(size=N).astype(np.float32)
    loss[5] = np.nan
    gradients = rng.normal(size=(N, 6)) + 3 * np.nan_to_num(loss)[:, None]
    for spec in ("infobatch", "infobatch:drop=0.37"):
        sums = []
        for epoch in range(2000):
            choice = choose(spec, fraction=None, epoch=epoch + 2, progress=0.2, present={LOSS: loss})
            sums.append(choice.weight @ gradients[choice.rows])
        error = np.std(sums, axis=0, ddof=1) / np.sqrt(len(sums))
        assert (np.abs(np.mean(sums, axis=0) - gradients.sum(0)) < 4 * error).all() and (error > 0).all()


def test_infobatch_drops_only_below_the_mean_and_never_what_it_has_not_seen():
    loss = np.r_[np.full(20, 1.0), np.full(15, 3.0), np.full(5, np.nan)].astype(np.float32)
    choice = choose("infobatch", fraction=None, epoch=3, progress=0.5, present={LOSS: loss})
    assert len(choice.rows) == 30 and set(range(20, 40)) <= set(choice.rows.tolist())
    np.testing.assert_array_equal(choice.weight[choice.rows < 20], 2.0)
    np.testing.assert_array_equal(choice.weight[choice.rows >= 20], 1.0)
    odd = choose("infobatch:drop=0.33", fraction=None, epoch=3, progress=0.5, present={LOSS: loss})
    assert (odd.rows < 20).sum() == 14 and odd.weight.max() == pytest.approx(20 / 14)  # floor(6.6) are dropped
    assert choose("infobatch:normalise=true", fraction=None, progress=0.5, present={LOSS: loss}).weight.mean() == (
        pytest.approx(1)
    )
    for more in ({"progress": 0.875}, {"present": {LOSS: np.full(N, np.nan, np.float32)}}):
        everything = choose("infobatch", **({"fraction": None, "progress": 0.5, "present": {LOSS: loss}} | more))
        assert len(everything.rows) == N and everything.weight is None
    equal = choose("infobatch", fraction=None, progress=0.5, present={LOSS: np.full(N, 0.1, np.float32)})
    assert len(equal.rows) == N  # none is strictly below the mean


def test_easiest_now_follows_the_losses_of_now():
    passes = PlantedPasses(loss=np.arange(N)[::-1])
    stale = {LOSS: np.r_[np.arange(10), np.full(30, np.nan)].astype(np.float32)}
    chosen = choose("easiest-now", present=stale, passes=passes)
    assert sorted(chosen.rows.tolist()) == list(range(30, 40)) and passes.asked == [(LOSS, False)]
    hard = choose("easiest-now:end=hard", present=stale, passes=passes)
    assert sorted(hard.rows.tolist()) == list(range(10))
    # without a pass (epoch 2 of every=3) it would stay with what it has seen, which is why the pass is the default
    locked = choose("easiest-now:every=3", epoch=2, present=stale, passes=passes)
    assert sorted(locked.rows.tolist()) == list(range(10)) and len(passes.asked) == 2
    fresh = choose("easiest-now:every=3", epoch=4, present=stale, passes=passes)
    assert sorted(fresh.rows.tolist()) == list(range(30, 40))
    by_class = choose("easiest-now:per_class=true", present=stale, passes=passes)
    assert sorted(np.bincount(by_class.rows % 3).tolist()) == [3, 3, 4] and by_class.rows.min() >= 28


def test_easiest_now_with_clean_losses_ranks_the_last_passs_losses_again():
    """Losses that training records are of another kind, and play no part."""
    passes = PlantedPasses(loss=np.arange(N)[::-1])
    stale = {LOSS: np.arange(N).astype(np.float32)}
    first = choose("easiest-now:refresh=clean:every=2", present=stale, passes=passes)
    assert sorted(first.rows.tolist()) == list(range(30, 40)) and passes.asked == [(LOSS, True)]
    passes.loss = passes.loss[::-1]
    again = choose("easiest-now:refresh=clean:every=2", epoch=2, present=stale, passes=passes, previous=first)
    assert sorted(again.rows.tolist()) == list(range(30, 40)) and len(passes.asked) == 1
    fresh = choose("easiest-now:refresh=clean:every=2", epoch=3, present=stale, passes=passes, previous=again)
    assert sorted(fresh.rows.tolist()) == list(range(10))
    grown = choose(
        "self-paced:refresh=clean:every=9", fraction=None, epoch=5, progress=0.5, present=stale, previous=first
    )
    assert len(grown.rows) == N  # the share follows the progress


def test_a_loss_that_is_not_finite_keeps_the_old_value():
    passes = PlantedPasses(loss=np.r_[np.nan, np.arange(1, N)])
    old = {LOSS: np.r_[0.1, np.full(N - 1, 50.0)].astype(np.float32)}
    assert 0 in choose("easiest-now", present=old, passes=passes).rows


@pytest.mark.parametrize(
    ("spec", "progress", "count"),
    [
        ("self-paced", 0.0, 20),
        ("self-paced", 0.25, 30),
        ("self-paced", 0.5, 40),
        ("self-paced", 0.9, 40),
        ("self-paced:start=0.2:full=1.0", 0.5, 24),
        ("self-paced:reverse=true", 0.0, 40),
        ("self-paced:reverse=true", 0.25, 30),
        ("self-paced:reverse=true", 0.7, 20),
    ],
)
def test_self_paced_takes_the_easiest_share(spec, progress, count):
    passes = PlantedPasses(loss=np.arange(N))
    chosen = choose(spec, fraction=None, progress=progress, passes=passes)
    assert sorted(chosen.rows.tolist()) == list(range(count))


def test_seta_slides_a_window_of_loss_groups():
    loss = np.repeat([0.0, 10.0, 20.0, 30.0, 40.0], 8).astype(np.float32)
    for epoch in range(1, 7):
        rows = choose("seta", fraction=None, epoch=epoch, progress=0.1, present={LOSS: loss}).rows
        groups = set(loss[rows].tolist())
        hardest_out = (epoch - 1) % 2 == 0
        assert groups == ({0.0, 10.0, 20.0, 30.0} if hardest_out else {10.0, 20.0, 30.0, 40.0})
        drawn = choose("seta:window=1.0", fraction=None, epoch=epoch, progress=0.1, present={LOSS: loss}).rows
        assert len(drawn) == 36 and set(rows.tolist()) <= set(drawn.tolist())  # a tenth is left out at random
    single = [
        set(loss[choose("seta:window=0.2", fraction=None, epoch=e, present={LOSS: loss}).rows].tolist())
        for e in range(1, 7)
    ]
    assert single == [{0.0}, {10.0}, {20.0}, {30.0}, {40.0}, {0.0}]
    assert len(choose("seta", fraction=None, epoch=5, progress=0.875, present={LOSS: loss}).rows) == 36


def test_seta_where_losses_say_nothing():
    for loss in (np.full(N, np.nan), np.full(N, 2.0), np.repeat([1.0, 2.0], 20)):
        rows = choose("seta", fraction=None, epoch=1, present={LOSS: loss.astype(np.float32)}).rows
        assert len(rows) == 29  # four of the equal parts of 36: 8 + 7 + 7 + 7
    loss = np.r_[np.full(4, np.nan), np.repeat([0.0, 1.0, 2.0, 3.0], 9)].astype(np.float32)
    rows = choose("seta:groups=4:window=0.25:drop=0.0", fraction=None, epoch=1, present={LOSS: loss}).rows
    assert sorted(rows.tolist()) == [*range(4), *range(4, 13)]  # never seen: trained on


def test_reselect_waits_then_keeps_its_choice_for_some_epochs():
    passes = PlantedPasses(loss=np.arange(N))
    spec = "reselect:method=easycore:every=3:warm=0.5"
    warm = choose(spec, progress=0.49, passes=passes)
    assert len(warm.rows) == N and not passes.asked
    chosen = choose(spec, epoch=6, progress=0.5, passes=passes, previous=warm)
    assert sorted(chosen.rows.tolist()) == list(range(10)) and chosen.since == 6
    passes.loss = passes.loss[::-1]
    for epoch in (7, 8):
        kept = choose(spec, epoch=epoch, progress=0.6, passes=passes, previous=chosen)
        np.testing.assert_array_equal(kept.rows, chosen.rows)
    again = choose(spec, epoch=9, progress=0.7, passes=passes, previous=chosen)
    assert sorted(again.rows.tolist()) == list(range(30, 40)) and again.since == 9 and passes.asked == ["table"] * 2
    weighted = choose("reselect:method=craig", passes=passes)
    assert weighted.weight.mean() == pytest.approx(1) and weighted.weight.std() > 0
    nested = load_dynamic_method("reselect:method=ccs/by=aign/beta=0.1:every=2")[1]
    assert nested.selector().by == "aign" and nested.selector().beta == 0.1


def test_a_static_method_within_one_has_one_spelling():
    for spec in ("reselect:method=easiest", "reselect:method=easiest/aign", "reselect:method=easiest/by=aign"):
        assert load_dynamic_method(spec)[0] == "reselect:method=easiest"
    for spec in ("reselect", "reselect:method=craig/gradients=clean"):
        assert load_dynamic_method(spec)[0] == "reselect"
    assert load_dynamic_method("reselect:method=easiest/loss")[0] == "reselect:method=easiest/by=loss"


def test_acs_by_rows_is_the_static_method_on_its_gradients():
    """With one term whose inputs end in 1 it is CRAIG and GradMatch of these features and probabilities."""
    from easycoreset import choose as choose_coreset

    passes = PlantedPasses()
    table = passes.table(None)
    error = table.probabilities.copy()
    error[np.arange(N), table.labels] -= 1
    passes.terms = (Gradients(error, np.concatenate([table.features, np.ones((N, 1), np.float32)], 1)),)
    for spec, static in (("acs-craig", "craig"), ("acs-gradmatch", "gradmatch")):
        chosen = choose(f"{spec}:unit=row:warm=0", passes=passes)
        expected = choose_coreset(table, method=static, fraction=0.25, seed=0)
        np.testing.assert_array_equal(chosen.rows, expected.index)
        np.testing.assert_allclose(chosen.weight, expected.weight[expected.index], rtol=1e-6)


def test_acs_by_batches_takes_whole_batches_with_one_weight_each():
    for spec in ("acs-craig:warm=0", "acs-gradmatch:warm=0"):
        chosen = choose(spec, passes=PlantedPasses(), fraction=0.5)
        assert len(chosen.rows) == 20 and chosen.weight.mean() == pytest.approx(1)
        batches = np.array_split(np.random.default_rng([0]).permutation(N), 5)
        touched = [batch for batch in batches if set(batch.tolist()) & set(chosen.rows.tolist())]
        assert len(touched) == 3
        for batch in touched:
            assert len(set(chosen.weight[np.isin(chosen.rows, batch)].tolist())) == 1


def test_gradient_sums_equal_outer_products():
    rng = np.random.default_rng(3)
    terms = tuple(
        Gradients(rng.normal(size=(9, 3)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32))
        for _ in range(2)
    )
    full = sum(np.einsum("nc,nd->ncd", t.error.astype(np.float64), t.inputs.astype(np.float64)) for t in terms)
    gradients = GradientSum(terms)
    flat = full.reshape(9, -1)
    expected = ((flat[:, None] - flat) ** 2).sum(2)
    np.testing.assert_allclose(gradients.pair_distances(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients.mean(), flat.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients.of_logit(1), full[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradients.take(np.array([4, 2])).mean(), flat[[4, 2]].mean(0), rtol=1e-5, atol=1e-6)


def test_wrong_use_is_named():
    for spec, name in (
        ("rs3", "rs2"),
        ("easycore", "coreset"),
        ("infobatch:drop=1.0", "drop"),
        ("reselect:every=0", "every"),
        ("reselect:warm=1.0", "warm"),
        ("reselect:method=file/x.txt", "method"),
        ("reselect:method=nothing", "nothing"),
        ("acs-craig:unit=sample", "unit"),
        ("self-paced:start=0.0", "start"),
        ("self-paced:full=1.5", "full"),
        ("easiest-now:every=0", "every"),
        ("easiest-now:by=aum_online:refresh=clean", "refresh"),
        ("seta:groups=0", "groups"),
        ("seta:window=0.0", "window"),
    ):
        with pytest.raises(UsageError, match=name):
            load_dynamic_method(spec)
    for spec in ("rs2", "reselect:method=craig"):
        with pytest.raises(UsageError, match="method"):
            require_static(spec)
    require_static("easycore")
    require_static("file:nowhere.txt")
    labels = np.zeros(N, np.int64)
    for name, fraction in (("infobatch", 0.5), ("self-paced", 0.5), ("seta", 0.5), ("rs2", None), ("acs-craig", None)):
        with pytest.raises(UsageError, match="fraction"):
            DynamicChooser(name, labels, fraction, 0, 8)
    with pytest.raises(UsageError, match="aum_online"):
        choose("easiest-now:by=aum_online:every=2", epoch=2, passes=PlantedPasses())
    with pytest.raises(UsageError, match="model"):
        choose("easiest-now")


@pytest.mark.parametrize(
    ("returned", "rule"),
    [
        (np.array([], np.int64), "m >= 1"),
        (np.array([0, N]), f"0..{N - 1}"),
        (np.array([-1]), f"0..{N - 1}"),
        (np.array([0.5]), "integers"),
        (np.zeros((2, 2), np.int64), "integers"),
        (None, "integers"),
        ((np.array([1, 2]), np.array([1.0])), "weights"),
        ((np.array([1, 2]), np.array([1.0, -1.0])), "weights"),
        ((np.array([1, 2]), np.array([1.0, np.nan])), "weights"),
        ((np.array([1, 2]), np.array([0.0, 0.0])), "weights"),
    ],
)
def test_what_a_users_method_may_not_return(returned, rule):
    with pytest.raises(UsageError, match=rule):
        check_choice(returned, N, "mine")


def test_a_users_method_may_return_rows_alone_or_with_weights():
    assert check_choice([3, 3, 1], N, "mine").rows.tolist() == [3, 3, 1]
    choice = check_choice(([3, 1], [0.5, 1.5]), N, "mine")
    assert choice.rows.tolist() == [3, 1] and choice.weight.tolist() == [0.5, 1.5]
