"""The calibration of a model's probabilities, and the temperature that improves it (Guo et al. 2017)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

MIN_SAMPLES = 50  # fewest samples for the fit of a temperature
MAX_SAMPLES = 10_000  # most samples for the fit
RANGE = (0.05, 20.0)  # of temperatures
BINS = 15  # bins of confidence, of equal width, as in the paper
FOLDS = 2  # the calibrated error of each fold uses the temperature fitted on the other


def fit_temperature(logits: Floats, labels: Ints) -> float | None:
    """The temperature by which logits [N,K] are divided so that the cross-entropy of held-out labels [N] is lowest.

    None for fewer than 50 samples. The target probability of each label is (N + 1) / (N + 2), as in Platt (1999): with
    1 instead, the best temperature of a model without errors would be 0. At most 10,000 of the samples are used.
    """
    if len(labels) < MIN_SAMPLES:
        return None
    chosen = np.random.default_rng(0).permutation(len(labels))[:MAX_SAMPLES]
    z, given = logits[chosen].astype(np.float64), labels[chosen]
    n, classes = z.shape
    target = np.full(z.shape, 1 / (n + 2) / max(classes - 1, 1))
    target[np.arange(n), given] = (n + 1) / (n + 2)

    def cross_entropy(log_temperature: float) -> float:
        return -float((target * log_softmax(z / np.exp(log_temperature), axis=1)).sum() / n)

    found: Any = minimize_scalar(cross_entropy, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(found.x))


def measure_calibration(logits: Floats, labels: Ints) -> dict[str, float | int | None]:
    """The mean confidence, the expected calibration error, and both after division by a temperature.

    The temperature is fitted on all samples. The calibrated values use two folds, so that no sample is measured with a
    temperature that was fitted on it. With fewer than 100 samples, all values except `samples` are None.

    Args:
        logits: [N,K] of samples that the model was not trained on.
        labels: [N].

    Returns:
        `samples, temperature, confidence, error, calibrated_confidence, calibrated_error`.
    """
    names = ("temperature", "confidence", "error", "calibrated_confidence", "calibrated_error")
    if len(labels) < FOLDS * MIN_SAMPLES:
        return {"samples": len(labels), **dict.fromkeys(names)}
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    calibrated = np.zeros(logits.shape)
    for number in range(FOLDS):
        temperature = fit_temperature(logits[fold != number], labels[fold != number])
        assert temperature is not None  # the folds are large enough
        calibrated[fold == number] = softmax(logits[fold == number].astype(np.float64) / temperature, axis=1)
    p = softmax(logits.astype(np.float64), axis=1)
    values = [fit_temperature(logits, labels), float(p.max(1).mean()), expected_calibration_error(p, labels)]
    values += [float(calibrated.max(1).mean()), expected_calibration_error(calibrated, labels)]
    return {"samples": len(labels), **dict(zip(names, values, strict=True))}


def expected_calibration_error(p: Floats, labels: Ints) -> float:
    """The mean distance of confidence and accuracy over bins of confidence, weighted by their samples (Eq. 3).

    >>> expected_calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])).__round__(3)
    0.4
    """
    confidence, right = p.max(1), p.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, confidence, BINS) - np.bincount(bins, right, BINS))
    return float(gaps.sum() / len(labels))
