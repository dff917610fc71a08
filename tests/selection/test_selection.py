"""Selectors: a contract that the whole table keeps, and answers that can be derived."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from easycoreset import Coreset, HardnessRecorder, Scores, UsageError, choose, select
from easycoreset.errors import EasycoresetWarning
from easycoreset.hardness import HARDNESS
from easycoreset.selection import SELECTORS, load_selector
from easycoreset.selection.row_selection import class_quotas, interleave
from easycoreset.tables import kept_count
from support.messages import named

ALL_COLUMNS = (*HARDNESS, "curvature", "vog")  # the last two are planted until their measures are built

REQUIRED = {"double-end": ":beta=0.0"}  # options without a default


def table(values, labels=None, columns=()):
    values = np.asarray(values, np.float32)
    labels = np.zeros(len(values), np.int64) if labels is None else np.asarray(labels, np.int64)
    return Scores(
        sample_ids=[f"s{i}" for i in range(len(values))],
        labels=labels,
        class_names=[f"class {k}" for k in range(labels.max() + 1)],
        n_obs=np.isfinite(values).astype(np.int32),
        columns={"aign": values, **dict(columns)},
        provenance={"fingerprint": "f", "split": "train"},
    )


def full_table(values, labels, features=None, probabilities=None):
    """A table with every column, and with features and probabilities, random unless given."""
    values = np.asarray(values, np.float32)
    labels = np.asarray(labels, np.int64)
    rng = np.random.default_rng(5)
    classes = int(labels.max()) + 1
    h = rng.random((len(values), 6)).astype(np.float16) if features is None else features
    p = rng.dirichlet(np.ones(classes), len(values)).astype(np.float32) if probabilities is None else probabilities
    columns = dict.fromkeys(ALL_COLUMNS, values)
    plain = table(values, labels, columns)
    return Scores(**{**vars(plain), "features": h, "probabilities": p, "features_adv": h, "probabilities_adv": p})


def write_features(scores, folder):
    """As `score --save-features adversarial` does."""
    for name in ("features", "probabilities", "features_adv", "probabilities_adv"):
        np.save(folder / f"{name}.npy", getattr(scores, name))
    record = {"split": "train", "fingerprint": "f", "bias": True, "kinds": {"clean": {}, "adversarial": {}}}
    (folder / "features.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def random_table():
    rng = np.random.default_rng(0)
    labels = rng.choice(7, 500, p=np.array([40, 20, 10, 10, 10, 5, 5]) / 100)
    return full_table(rng.random(500).round(2), labels)  # rounded: many ties


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("method", [f"{name}{REQUIRED.get(name, '')}" for name in SELECTORS])
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
class TestContract:
    def test_size_range_order_and_seed(self, method, per_class, random_table):
        for count in (1, 13, 250, 499, 500):
            coreset = choose(random_table, method=method, fraction=count / 500, per_class=per_class, seed=3)
            assert len(coreset) == count == coreset.keep.sum()
            assert np.array_equal(np.sort(coreset.rank[coreset.keep]), np.arange(count))
            assert (coreset.rank[~coreset.keep] == -1).all()
            assert (
                coreset.weight[coreset.keep].mean() == pytest.approx(1)
                and np.isnan(coreset.weight[~coreset.keep]).all()
            )
            again = choose(random_table, method=method, fraction=count / 500, per_class=per_class, seed=3)
            assert np.array_equal(coreset.rank, again.rank)

    def test_shuffled_rows_choose_the_same_samples(self, method, per_class, random_table, tmp_path):
        shuffled = random_table.to_table().take(np.random.default_rng(1).permutation(500))
        pq.write_table(shuffled, tmp_path / "shuffled.parquet")
        write_features(random_table, tmp_path)
        read = Scores.read(tmp_path / "shuffled.parquet")
        chosen = [choose(t, method=method, fraction=0.3, per_class=per_class).rank for t in (random_table, read)]
        assert np.array_equal(*chosen)

    def test_equal_scores_sorted_by_class_keep_no_class_out(self, method, per_class):
        same = {"features": np.ones((400, 3), np.float16), "probabilities": np.full((400, 4), 0.25, np.float32)}
        sorted_by_class = full_table(np.ones(400), np.repeat(np.arange(4), 100), **same)
        coreset = choose(sorted_by_class, method=method, fraction=0.25, per_class=per_class)
        counts = np.bincount(sorted_by_class.labels[coreset.keep], minlength=4)
        always = getattr(load_selector(method)[1], "per_class", False)
        assert (counts == 25).all() if per_class or always else (counts > 10).all()

    @pytest.mark.slow
    def test_one_sample_a_class_and_200_classes(self, method, per_class):
        many = full_table(np.arange(200), np.arange(200))
        assert len(choose(many, method=method, fraction=0.5, per_class=per_class)) == 100
        wide = full_table(np.arange(1000) % 17, np.arange(1000) % 200)
        counts = np.bincount(wide.labels[choose(wide, method=method, fraction=0.4, per_class=True).keep], minlength=200)
        assert (counts == 2).all()

    def test_class_quotas_with_unequal_classes(self, method, per_class, random_table):
        coreset = choose(random_table, method=method, fraction=0.1, per_class=True)
        sizes = np.bincount(random_table.labels)
        after = np.bincount(random_table.labels[coreset.keep], minlength=len(sizes))
        assert (np.abs(after - sizes * 0.1) < 1).all() and after.sum() == 50

    def test_a_prefix_per_class_is_a_smaller_balanced_coreset(self, method, per_class, random_table):
        coreset = choose(random_table, method=method, fraction=0.5, per_class=True)
        first = random_table.labels[np.argsort(np.where(coreset.keep, coreset.rank, 10**6))[:100]]
        sizes = np.bincount(random_table.labels)
        assert (np.abs(np.bincount(first, minlength=7) - sizes * 0.2) <= 1).all()


def test_ends_and_middle():
    scores = table([5, 1, 4, np.nan, 2, 3])
    assert set(choose(scores, method="easycore", fraction=1 / 3).index) == {1, 4}
    assert set(choose(scores, method="easiest", fraction=1 / 3).index) == {1, 4}
    assert set(choose(scores, method="hardest", fraction=1 / 3).index) == {0, 2}
    assert set(choose(scores, method="middle", fraction=1 / 6).index) == {5}
    assert set(choose(scores, method="middle", fraction=1 / 3).index) == {4, 5}  # floor((5 - 2) / 2) = 1: ranks 1 and 2
    assert set(choose(scores, method="middle", fraction=0.5).index) == {4, 5, 2}
    for method in ("easycore", "hardest", "middle"):
        five = choose(scores, method=method, fraction=5 / 6)
        assert 3 not in five.index  # NaN comes last at either end
        with pytest.warns(EasycoresetWarning, match=r"\b1\b.*\bobserved\b"):
            six = choose(scores, method=method, fraction=1.0)
        assert six.rank[3] == 5  # kept only when observed rows run out
    assert choose(scores, method="easycore", fraction=5 / 6).rank.tolist() == [4, 0, 3, -1, 1, 2]


def test_columns_are_named_and_missing_ones_offered():
    scores = table([1, 2, 3, 4], columns={"loss": np.array([4, 3, 2, 1], np.float32)})
    for spec, by in (("easiest:loss", None), ("easiest:by=loss", None), ("easiest", "loss")):
        coreset = choose(scores, method=spec, by=by, fraction=0.5)
        assert set(coreset.index) == {2, 3} and coreset.provenance["method"] == "easiest:by=loss"
    with pytest.raises(UsageError, match="column 'los'.*'loss'.*easycoreset score --hardness los"):
        choose(scores, method="easiest:los", fraction=0.5)
    with pytest.raises(UsageError, match="'random'.*'by'"):
        choose(scores, method="random", by="loss", fraction=0.5)
    with pytest.raises(UsageError, match=r"\bby\b.*'loss'.*'aign'"):
        choose(scores, method="easiest:loss", by="aign", fraction=0.5)
    with pytest.raises(UsageError, match="'esycore'.*'easycore'"):
        choose(scores, method="esycore", fraction=0.5)


def test_easycore_takes_online_scores_only_where_there_are_no_exact_ones(caplog):
    scores = table([1, 2, 3, 4])
    only = Scores(**{**vars(scores), "columns": {"aign_online": scores["aign"][::-1].copy()}})
    with caplog.at_level("INFO", "easycoreset"):
        assert set(choose(only, method="easycore", fraction=0.5).index) == {2, 3}
    assert "aign_online" in caplog.text
    both = Scores(**{**vars(scores), "columns": {**scores.columns, **only.columns}})
    assert set(choose(both, method="easycore", fraction=0.5).index) == {0, 1}


def test_lost_classes_are_warnings_that_name_them():
    scores = table(np.arange(100), np.repeat([0, 1], 50))
    with pytest.warns(EasycoresetWarning, match=r"\bclass class 1\b"):
        choose(scores, method="easycore", fraction=0.3)
    starved = table(np.r_[np.arange(98), 0.5, 1.5], np.r_[np.zeros(49, int), np.ones(49, int), 1, 1])
    with pytest.warns(EasycoresetWarning, match=r"\bclass class 1 \(2 of 51\)"):
        choose(starved, method="easycore", fraction=0.5)


def test_user_selectors():
    scores = table([1, 2, 3, 4])
    assert set(choose(scores, method="tests.support.factories:first_rows", fraction=0.5).index) == {0, 1}
    with pytest.raises(UsageError, match=r"too_few.*\bCoreset\b.*\b2\b.*\b1$"):
        choose(scores, method="tests.support.factories:too_few", fraction=0.5)
    with pytest.raises(UsageError, match=r"tests\.support\.factories:nothing"):
        choose(scores, method="tests.support.factories:nothing", fraction=0.5)


def test_counts_and_quotas():
    assert [kept_count(f, 10) for f in (0.05, 0.25, 0.349, 1)] == [1, 3, 3, 10]
    for bad in (0, -0.1, 1.01, float("nan"), 0.04):
        with pytest.raises(UsageError, match=rf"^fraction\b.* {bad}$"):
            kept_count(bad, 10)
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 30, rng.integers(1, 9)) + (rng.random() < 0.5)
        if not sizes.sum():
            continue
        count = int(rng.integers(0, sizes.sum() + 1))
        quotas = class_quotas(sizes.astype(np.int64), count, rng)
        assert (
            quotas.sum() == count
            and (quotas <= sizes).all()
            and (np.abs(quotas - count * sizes / sizes.sum()) < 1).all()
        )
    ties = {tuple(class_quotas(np.array([1, 1, 1]), 1, np.random.default_rng(s))) for s in range(20)}
    assert len(ties) == 3  # equal remainders in seeded order
    first = {interleave([np.array([0]), np.array([1])], np.random.default_rng(s))[0] for s in range(20)}
    assert first == {0, 1}


def test_select_writes_a_table_that_reads_back(scored, tmp_path):
    out = tmp_path / "deep" / "coreset.parquet"
    with pytest.warns(EasycoresetWarning):
        coreset = select(scores=scored / "scores.parquet", fraction=0.1, out=out)
    written = pq.read_table(out)
    assert written.column_names == ["index", "sample_id", "label", "keep", "rank", "weight"]
    assert written.num_rows == 1438 and written["rank"].null_count == written["weight"].null_count == 1438 - 144
    read = Coreset.read(out)
    assert np.array_equal(read.rank, coreset.rank) and read.provenance == coreset.provenance
    assert (tmp_path / "deep" / "coreset.json").exists()
    scores = Scores.read(scored / "scores.parquet")
    assert scores["aign"][coreset.keep].max() <= scores["aign"][~coreset.keep].min()


def test_select_writes_over_nothing_but_coresets(scored, tmp_path):
    folder = shutil.copytree(scored, tmp_path / "run")
    scores = folder / "scores.parquet"
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for out in (
        folder / "x" / ".." / "scores.parquet",
        folder / "trajectory" / "0001.parquet",
        folder / "run.parquet",
        folder / "model.parquet",
    ):
        (folder / "x").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="^out|column 'keep'"):
            select(scores=scores, fraction=0.5, out=out)
    assert all(path.read_bytes() == content for path, content in before.items())
    for fraction in (0.5, 0.6):
        select(scores=scores, fraction=fraction, per_class=True, out=tmp_path / "mine.parquet")
    assert len(Coreset.read(tmp_path / "mine.parquet")) == 863


def test_without_labels_nothing_is_selected_per_class():
    recorder = HardnessRecorder(4, reduction="sum")
    recorder.watch(torch.rand(4, 1, 2, 2), torch.arange(4)).sum().backward()
    recorder.end_epoch()
    with pytest.raises(UsageError, match=r"\bper_class\b.*\blabels\b"):
        choose(recorder.scores(), method="easycore", fraction=0.5, per_class=True)
    planted = Scores(**{**vars(recorder.scores()), "columns": {"curvature": np.ones(4, np.float32)}})
    with pytest.raises(UsageError, match=r"slocurves.*\blabels\b"):
        choose(planted, method="slocurves", fraction=0.5)


def test_kept_samples_that_were_never_seen_online_are_told():
    scores = table([1, 2, np.nan, np.nan])
    online = Scores(**{**vars(scores), "columns": {"aign_online": scores["aign"]}})
    with pytest.warns(EasycoresetWarning, match=r"\b1\b.*\bobserved\b"):
        choose(online, method="easycore", fraction=0.75)


def test_infinite_values_count_as_never_observed(caplog):
    with caplog.at_level("WARNING", "easycoreset"):
        scores = table([1, np.inf, 3, -np.inf])
    assert named(caplog.text, "2 infinite", "aign")
    assert set(choose(scores, method="hardest", fraction=0.5).index) == {0, 2}


def test_features_with_a_large_mean_keep_their_digits():
    rng = np.random.default_rng(0)
    h = (1000 + rng.normal(size=(200, 16))).astype(np.float16)
    scores = full_table(np.ones(200), np.zeros(200, int), features=h, probabilities=np.ones((200, 1), np.float32))
    wide = h.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    s = (1 + unit @ unit.T) / 2
    gains = s.sum(0) - 0.5 * np.diag(s)
    picks = []
    for _ in range(20):
        picks.append(int(np.argmax(gains)))
        gains = gains - s[picks[-1]]
        gains[picks] = -np.inf
    assert len(set(picks) & set(choose(scores, method="graphcut", fraction=0.1).index)) >= 19


def test_tables_say_what_they_are_in_a_line():
    scores = table([1, 2, 3, 4])
    assert repr(scores) == "Scores of 4 samples: aign"
    assert repr(choose(scores, method="easycore", fraction=0.5)) == "Coreset of 2 of 4 samples by easycore"


def test_apply_to_arrays_tensors_and_data_sets():
    coreset = choose(table([3, 1, 2, 4]), method="easycore", fraction=0.5)
    x = np.arange(8).reshape(4, 2)
    y = torch.tensor([10, 11, 12, 13])
    kept_x, kept_y = coreset.apply((x, y))
    assert kept_x.tolist() == [[2, 3], [4, 5]] and kept_y.tolist() == [11, 12]
    view = coreset.apply(torch.utils.data.TensorDataset(torch.from_numpy(x), y))
    assert len(view) == 2 and view[1][1] == 12
    loaded = next(iter(torch.utils.data.DataLoader(view, batch_size=2)))
    assert loaded[1].tolist() == [11, 12]
    frame = pd.DataFrame({"a": [10, 11, 12, 13]})
    assert coreset.apply(frame)["a"].tolist() == [11, 12]
    assert [coreset.apply([torch.ones(1), torch.zeros(2), torch.ones(3), torch.ones(4)])[1].shape] == [(3,)]
    with pytest.raises(UsageError, match=r"\b4\b.*\b5$"):
        coreset.apply(np.zeros(5))
