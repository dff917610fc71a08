"""Planted wrong labels of simulated judges: as many as expected are wrong among those that are called.

The judges are calibrated up to one scale and one shift, which is what the model assumes; real ones are not.
"""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from easycoreset.auditing.label_noise import fit_label_noise

SHARES = np.array([0.55, 0.25, 0.15, 0.05])  # of the classes
CONFUSED = np.array([2, 3, 0, 1])  # the class to which labels are flipped


def simulate(kind, share, seed, n=4000, confidence=2.5):
    """A judge's probabilities, the given labels and the true ones: x ~ N(mean of the class, 1) in the classes' space."""
    rng = np.random.default_rng(seed)
    classes = len(SHARES)
    true = rng.choice(classes, n, p=SHARES)
    x = rng.normal(size=(n, classes)) + confidence * np.eye(classes)[true]
    logits = confidence * x + np.log(SHARES)  # of the posterior
    wrong = rng.random(n) < share * (0.5 + (true == 0))  # more in the largest class
    other = (true + rng.integers(1, classes, n)) % classes
    given = np.where(wrong, CONFUSED[true] if kind == "confused" else other, true)
    return softmax(logits, 1), given, true


@pytest.mark.parametrize("kind", ["uniform", "confused"])
@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.slow
def test_as_many_are_wrong_as_expected_and_no_fewer_found_than_by_cleanlab(kind, scale):
    from cleanlab.rank import get_label_quality_scores

    expected, found, variance = 0.0, 0, 0.0
    for seed in range(2):
        p, given, true = simulate(kind, 0.1, seed)
        wrong = given != true
        judged = softmax(scale * np.log(p + 1e-12), 1)
        model = fit_label_noise(judged, given)
        q = model.probability_wrong(judged, given)
        assert model.scale == pytest.approx(1 / scale, rel=0.15)
        called = q > 0.5
        assert called.sum() > 60 and (judged[called].argmax(1) != given[called]).all()
        expected += q[called].sum()
        found += wrong[called].sum()
        variance += (q[called] * (1 - q[called])).sum()
        ours = average_precision_score(wrong, q)
        for method in ("self_confidence", "normalized_margin"):
            assert ours > average_precision_score(wrong, -get_label_quality_scores(given, judged, method=method)) - 0.01
    assert abs(found - expected) < 4 * np.sqrt(variance) + 0.05 * expected


def test_where_all_labels_are_right_almost_none_is_called():
    p, given, _ = simulate("uniform", 0.0, 7)
    q = fit_label_noise(p, given).probability_wrong(p, given)
    assert (q > 0.5).mean() < 0.002 and q.mean() < 0.005


def test_a_judge_that_knows_nothing_calls_nothing():
    _, given, _ = simulate("uniform", 0.1, 8)
    p = np.tile(SHARES, (len(given), 1))
    assert (fit_label_noise(p, given).probability_wrong(p, given) < 0.5).all()
