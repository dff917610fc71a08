"""Every hardness: toy values that can be checked by hand, and the definition on random trajectories."""

import itertools

import numpy as np
import pytest
import torch

from easycoreset import UsageError
from easycoreset.hardness import HARDNESS, Outputs, Workload, load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models.digits_cnn import digits_cnn


def measured(spec, logits, y):
    (measure,) = load_hardness([spec])
    return measure.measure(Outputs(torch.tensor(logits, dtype=torch.float64), torch.tensor(y))).numpy()


def folded(spec, epochs):
    (measure,) = load_hardness([spec])
    fold = measure.fold()
    for values in epochs:
        fold.add(np.asarray(values, float))
    return fold.result()


def test_toy_values_of_one_epoch():
    certain_and_wrong = [[100.0, 0, 0, 0]]
    assert measured("loss", [[0.0, 0, 0, 0]], [2]) == pytest.approx(np.log(4))
    assert measured("el2n", [[0.0, 0, 0, 0]], [1]) == pytest.approx(np.sqrt(0.75))
    assert measured("el2n", certain_and_wrong, [1]) == pytest.approx(np.sqrt(2))
    assert measured("aum", [[1.0, 4, 2]], [1]) == pytest.approx(-2)
    p = np.log([[0.2, 0.7, 0.1]])
    assert measured("prob_gap", p, [0]) == pytest.approx(-0.5)
    assert measured("least_confidence", p, [0]) == pytest.approx(0.3)
    assert measured("entropy", p, [0]) == pytest.approx(-(0.2 * np.log(0.2) + 0.7 * np.log(0.7) + 0.1 * np.log(0.1)))
    assert measured("uncertainty", p, [0]) == pytest.approx(0.2)
    assert measured("forgetting", [[1.0, 1, 0], [1.0, 1, 0]], [0, 1]).tolist() == [1, 0]  # the lowest class on ties


def test_toy_values_over_epochs():
    assert folded("forgetting", np.transpose([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])).tolist() == [
        2,
        1,
        0,
        4,
    ]
    assert folded("uncertainty", [[0.2], [0.6]]) == pytest.approx(0.4 / np.sqrt(2))
    assert np.isnan(folded("uncertainty", [[0.2]]))
    assert folded("loss", [[1.0], [np.nan], [2.0]]) == pytest.approx(1.5)
    assert folded("entropy", [[1.0], [2.0], [np.nan]]) == pytest.approx(2)
    assert folded("el2n", [[1.0]] * 10 + [[100.0]] * 5) == pytest.approx(1)


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 11, 25])
def test_folds_equal_their_definitions_on_random_trajectories(epochs):
    rng = np.random.default_rng(epochs)
    values = rng.random((epochs, 40))
    values[rng.random(values.shape) < 0.2] = np.nan
    right = np.where(np.isnan(values), np.nan, values > 0.5)
    for row in range(40):
        seen = values[:, row][~np.isnan(values[:, row])]
        flags = right[:, row][~np.isnan(right[:, row])]
        one = slice(row, row + 1)
        windows = [seen[i : i + 10] for i in range(max(len(seen) - 9, 1))]
        uncertainty = np.mean([w.std(ddof=1) for w in windows]) if len(seen) > 1 else np.nan
        forgotten = sum(a == 1 and b == 0 for a, b in itertools.pairwise(flags))
        expected = {
            "loss": seen.mean() if len(seen) else np.nan,
            "el2n": seen[:10].mean() if len(seen) else np.nan,
            "entropy": seen[-1] if len(seen) else np.nan,
            "uncertainty": uncertainty,
            "forgetting": (forgotten if flags.any() else len(flags)) if len(flags) else np.nan,
        }
        for name, value in expected.items():
            found = folded(name, (right if name == "forgetting" else values)[:, one])[0]
            assert found == pytest.approx(value, rel=1e-5, nan_ok=True), (name, row)


def test_measures_equal_their_definitions_on_random_logits():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 7)) * 5
    y = rng.integers(0, 7, 50)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    own = p[np.arange(50), y]
    top = np.sort(p, 1)
    others = z.copy()
    others[np.arange(50), y] = -np.inf
    expected = {
        "loss": -np.log(own),
        "el2n": np.sqrt(((p - np.eye(7)[y]) ** 2).sum(1)),
        "forgetting": p.argmax(1) == y,
        "aum": others.max(1) - z[np.arange(50), y],
        "uncertainty": own,
        "entropy": -(p * np.log(p)).sum(1),
        "least_confidence": 1 - top[:, -1],
        "prob_gap": top[:, -2] - top[:, -1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(measured(name, z, y), values, rtol=1e-9, err_msg=name)


def test_logits_that_are_not_finite_give_nan_and_underflow_does_not():
    values = measured("forgetting", [[np.nan, 1.0], [0.0, 1.0]], [1, 1])
    assert np.isnan(values[0]) and values[1] == 1
    assert measured("entropy", [[2000.0, 0.0]], [0]) == pytest.approx(0)
    assert measured("loss", [[2000.0, 0.0]], [1]) == pytest.approx(2000)


def test_variants_are_named():
    names = [
        m.name for m in load_hardness(["aign:norm=l1:squared=true", "aign", "aign:space=model", "aign:dtype=float64"])
    ]
    assert names == ["aign_l1_squared", "aign", "aign_model", "aign_float64"]
    with pytest.raises(UsageError, match="hardness.*'aign'"):
        load_hardness(["aign", "aign"])
    with pytest.raises(UsageError, match="norm.*l1, l2, linf.*'l3'"):
        load_hardness(["aign:norm=l3"])


@pytest.mark.parametrize("name", HARDNESS)
def test_every_measure_gives_a_finite_value_that_depends_on_its_sample_alone(name, digits):
    """One value a sample, or many if it is wide; the same in other batches; a sample without an observation is NaN."""
    torch.manual_seed(0)
    cnn = digits_cnn(1, 10)
    (measure,) = load_hardness([name], in_training=True)
    if measure.recorded_only:
        with pytest.raises(UsageError, match=name):
            load_hardness([name])
        return
    split = digits.splits["train"]
    rows = np.arange(12)
    whole, parts = (
        measure_all(cnn, lambda size=size: split.batches(rows, size), 12, [measure], seed=3)[measure.column]
        for size in (12, 5)
    )
    assert len(whole) == 12 and whole.ndim == 1 + measure.is_wide and np.isfinite(whole).all()
    np.testing.assert_allclose(whole, parts, rtol=2e-3, atol=1e-5)
    fold = measure.fold()
    for _ in range(10):
        fold.add(torch.from_numpy(whole) if measure.is_wide else whole)
    assert fold.result().shape == (12,) and fold.result().dtype == np.float32 and np.isfinite(fold.result()).all()
    never = measure.fold()
    never.add(torch.full(whole.shape, np.nan) if measure.is_wide else np.full_like(whole, np.nan))
    assert np.isnan(never.result()).all()
    assert measure.expensive == bool(measure.describe_cost(Workload(samples=10, pixels=64, parameters=99, epochs=3)))
    assert measure.count_passes(4) >= 0 and (measure.expensive or not measure.count_passes(4))
