"""The candidates of the search for something better than EasyCore: their choices where they can be derived."""

import numpy as np
import pytest
from benchmarks import candidates
from benchmarks.candidates import (
    EasyPart,
    LighterHard,
    MeanRank,
    PartlyBalanced,
    SmoothForItsLoss,
    SoftDraw,
    SpreadEasy,
    WithoutEasiest,
)

from easycoreset import Scores, UsageError
from easycoreset.dynamic import EpochState, pool_table
from easycoreset.selection.extremes import Easiest
from easycoreset.tables.holdout import hold_out


@pytest.fixture(scope="module")
def published():
    return Scores.published("cifar10")


def state(labels, epoch=1, progress=0.0, fraction=None):
    return EpochState(
        labels=labels, fraction=fraction, seed=3, epoch=epoch, progress=progress, batch_size=128, present={}
    )


def test_the_mean_rank_is_not_moved_by_the_scale_of_a_measure():
    columns = {name: np.arange(10.0) for name in candidates.COLUMNS}
    columns["loss"] = 1000 * np.array([9.0, 1, 2, 3, 4, 5, 6, 7, 8, 0])  # swaps the first and the last
    kept = MeanRank()(pool_table(np.arange(10) % 2, columns), 4, 0).index
    assert kept.tolist() == [0, 1, 2, 3]  # (0 * 5 + 9) / 6 = 1.5 lies between 1 and 2
    assert MeanRank()(pool_table(np.arange(10) % 2, columns), 1, 0).index.tolist() == [1]


def test_the_very_easiest_are_skipped():
    table = pool_table(np.arange(20) % 2, {"loss": np.arange(20.0)[::-1].copy()})
    assert WithoutEasiest(skip=0.1)(table, 5, 0).index.tolist() == [13, 14, 15, 16, 17]
    with pytest.raises(UsageError, match="^skip.*fraction"):
        WithoutEasiest(skip=0.9)(table, 5, 0)


def test_quotas_lie_between_the_class_share_and_the_easiest():
    labels = np.repeat([0, 1, 2], [10, 10, 20])
    table = pool_table(labels, {"loss": np.arange(40.0)})
    for balance, expected in ((0.0, [10, 10, 0]), (1.0, [5, 5, 10]), (0.5, [8, 7, 5])):
        _, kept = PartlyBalanced(balance=balance)(table, 20, 0).class_counts()
        assert np.abs(kept - expected).max() <= (balance == 0.5) and kept.sum() == 20
    chosen = PartlyBalanced(balance=1.0)(table, 20, 0).index
    assert chosen.tolist() == [*range(5), *range(10, 15), *range(20, 30)]  # the easiest of each class


def test_among_samples_of_one_loss_the_lowest_aign_is_kept():
    rng = np.random.default_rng(0)
    loss = np.repeat(np.arange(candidates.BINS, dtype=float), 10)
    aign = loss + rng.random(500)  # mostly the loss
    kept = SmoothForItsLoss()(pool_table(np.arange(500) % 2, {"aign": aign, "loss": loss}), 250, 0).keep
    within = (aign - loss).reshape(-1, 10)
    assert (kept.reshape(-1, 10).sum(1) == 5).all()
    assert (np.where(kept.reshape(-1, 10), within, -1).max(1) < np.where(kept.reshape(-1, 10), 2, within).min(1)).all()


def test_the_spread_choice_is_of_the_easier_part_and_covers_more_than_the_easiest():
    rng = np.random.default_rng(1)
    labels, loss = np.repeat([0, 1, 2], [80, 60, 60]), rng.random(200)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    features[loss < 0.3] *= 0.05  # the very easiest lie close together
    table = pool_table(labels, {"loss": loss}, features=features)
    easy = np.argsort(loss)[:140]
    kept = {
        name: method(table, 60, 0).index for name, method in (("spread", SpreadEasy()), ("easiest", Easiest(by="loss")))
    }
    assert np.isin(kept["spread"], easy).all() and len(set(kept["spread"].tolist())) == 60

    def uncovered(rows):
        distances = np.linalg.norm(features[easy, None] - features[None, rows], axis=2)
        return np.where(labels[easy, None] == labels[rows], distances, np.inf).min(1).mean()

    assert uncovered(kept["spread"]) < uncovered(kept["easiest"])
    with pytest.raises(UsageError, match="^part"):
        SpreadEasy(part=0.2)(table, 60, 0)


def test_draws_fall_with_hardness_and_lose_nobody(published):
    drawn = np.zeros(len(published))
    for epoch in range(1, 41):
        rows = SoftDraw()(state(published.labels, epoch, fraction=0.5)).rows
        assert len(set(rows.tolist())) == 25_000
        drawn[rows] += 1
    by_hardness = [drawn[part].mean() / 40 for part in np.array_split(np.argsort(published["loss"]), 5)]
    assert by_hardness == sorted(by_hardness, reverse=True) and by_hardness[0] > 1.5 * by_hardness[-1]
    assert (drawn > 0).mean() > 0.99
    again = SoftDraw()(state(published.labels, 40, fraction=0.5)).rows
    assert np.array_equal(again, rows)


def test_weights_fall_with_hardness_and_parts_follow_the_budget(published):
    kept = hold_out(published.labels, candidates.VAL_FRACTION)[0]
    labels, loss = published.labels[kept], published["loss"][kept]
    choice = LighterHard(lowest=0.1)(state(labels))
    easiest, hardest = np.argmin(loss), np.argmax(loss)
    assert len(choice.rows) == 45_000 and choice.weight.mean() == pytest.approx(1, abs=1e-5)
    assert choice.weight[hardest] / choice.weight[easiest] == pytest.approx(0.1, abs=1e-3)
    last, first = EasyPart(easy="last"), EasyPart(easy="first")
    assert [len(last(state(labels, progress=p)).rows) for p in (0.0, 0.49, 0.5, 0.9)] == [45000, 45000, 22500, 22500]
    assert [len(first(state(labels, progress=p)).rows) for p in (0.0, 0.49, 0.5, 0.9)] == [22500, 22500, 45000, 45000]
    easy = last(state(labels, progress=0.9)).rows
    assert loss[easy].max() <= np.delete(loss, easy).min()
    with pytest.raises(UsageError, match="^data.*cifar10"):
        LighterHard()(state(labels[:-1]))
    with pytest.raises(UsageError, match="^easy"):
        EasyPart(easy="middle")
