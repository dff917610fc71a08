"""Which labels are probably wrong: a judge's calibration and a matrix of label noise, fitted together by EM."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from easycoreset.auditing.uniform_noise import UniformNoise, fit_uniform_noise

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PRIOR_STRENGTHS = (
    0.001,
    0.01,
    0.1,
    1.0,
    10.0,
    100.0,
)  # candidates for the prior, as multiples of the samples of a class
NOISE = 0.05  # prior share of wrong labels
NOISE_SAMPLES = 20  # the prior share counts as so many samples
CLEAR_STANDARD_ERRORS = 3.0  # a likelihood is clearly lower if it is lower by more than so many standard errors
FOLDS = 3
MAX_VALUES = 10**6  # rows times classes that the model is fitted to, at most
ROWS = (2_000, 20_000)  # rows that the model is fitted to, at least and at most
ITERATIONS = 60
EM_TOLERANCE = 1e-6  # EM ends when the mean log-likelihood gains less than this
FLOOR = 1e-12  # added to probabilities before the logarithm; a higher one would distort those of an overconfident judge


@dataclass(frozen=True)
class LabelNoise:
    """A model of the labels.

    Attributes:
        scale: what the judge's log-probabilities are multiplied by; below 1 where it is too confident.
        shift: [K] what is added to them.
        transition: [K,K] the probability of each given label (column), given the true one (row).
    """

    scale: float
    shift: Floats
    transition: Floats

    def log_joint(self, log_p: Floats, labels: Ints) -> Floats:
        """[N,K], the log-probability of each true label together with the given one."""
        calibrated = log_softmax(self.scale * log_p + self.shift, axis=1)
        return calibrated + np.log(self.transition[:, labels].T)

    def log_likelihood(self, log_p: Floats, labels: Ints) -> Floats:
        """[N], the log-probability of each given label."""
        return np.logaddexp.reduce(self.log_joint(log_p, labels), axis=1)

    def probability_wrong(self, p: npt.NDArray[np.floating], labels: Ints) -> Floats:
        """[N], the probability that each label is wrong, of a judge's out-of-sample probabilities [N,K]."""
        joint = self.log_joint(_log(p), labels)
        right = joint[np.arange(len(labels)), labels] - np.logaddexp.reduce(joint, axis=1)
        return 1 - np.exp(right)


def fit_label_noise(p: npt.NDArray[np.floating], labels: Ints, seed: int = 0) -> LabelNoise | UniformNoise:
    """Fit the model: the calibrated judge gives the true labels, and the transition matrix turns them into given ones.

    The prior pulls the matrix to noise that is uniform over the other classes. The strongest prior is taken whose
    likelihood on held-out samples is not clearly lower than the best: if a judge confuses two classes, it looks as if
    their labels were confused, so confused labels are assumed only if the held-out labels show them clearly. If even
    the strongest prior is good enough, the noise is taken as uniform.

    Args:
        p: [N,K], out-of-sample probabilities of a judge.
        labels: [N], the given labels.
        seed: seed of the subsample that is drawn from many samples, and of the folds.
    """
    rng = np.random.default_rng(seed)
    count = int(np.clip(MAX_VALUES // p.shape[1], *ROWS))
    rows = rng.permutation(len(labels))[:count]
    log_p, given = _log(p[rows]), labels[rows]
    fold = np.arange(len(rows)) % FOLDS

    def held_out_likelihood(strength: float) -> Floats:
        likelihood = np.zeros(len(rows))
        for number in range(FOLDS):
            fitted, rest = fold != number, fold == number
            likelihood[rest] = _fit(log_p[fitted], given[fitted], strength).log_likelihood(log_p[rest], given[rest])
        return likelihood

    likelihoods = {strength: held_out_likelihood(strength) for strength in PRIOR_STRENGTHS}
    best = max(likelihoods.values(), key=np.sum)
    lacks = {strength: best - values for strength, values in likelihoods.items()}
    strengths = [s for s, lack in lacks.items() if lack.sum() <= CLEAR_STANDARD_ERRORS * lack.std() * len(rows) ** 0.5]
    if max(strengths) == PRIOR_STRENGTHS[-1]:
        return fit_uniform_noise(p[rows], given, NOISE, NOISE_SAMPLES)
    return _fit(log_p, given, max(strengths))


def _log(p: npt.NDArray[np.floating]) -> Floats:
    return np.log(p.astype(np.float64) + FLOOR)


def _fit(log_p: Floats, labels: Ints, strength: float) -> LabelNoise:
    """Fit by EM, with the calibration improved by some steps of L-BFGS in every M step."""
    n, classes = log_p.shape
    model = LabelNoise(1.0, np.zeros(classes), _uniform_noise(NOISE, classes))
    last = -np.inf
    for _ in range(ITERATIONS):
        joint = model.log_joint(log_p, labels)
        total = np.logaddexp.reduce(joint, axis=1)
        if total.mean() - last < EM_TOLERANCE:
            break
        last = total.mean()
        true = np.exp(joint - total[:, None])  # [N,K], the probability of each true label
        counts = np.stack([np.bincount(labels, true[:, k], minlength=classes) for k in range(classes)])
        wrong = counts.sum() - np.trace(counts)
        share = (wrong + NOISE * NOISE_SAMPLES) / (n + NOISE_SAMPLES)
        transition = counts + strength * n / classes * _uniform_noise(share, classes)
        scale, shift = _calibrate(log_p, true, model.scale, model.shift)
        model = LabelNoise(scale, shift, transition / transition.sum(1, keepdims=True))
    return model


def _uniform_noise(share: float, classes: int) -> Floats:
    return np.where(np.eye(classes, dtype=bool), 1 - share, share / (classes - 1))


def _calibrate(log_p: Floats, true: Floats, scale: float, shift: Floats) -> tuple[float, Floats]:
    """Improve scale and shift: the cross-entropy to the true labels, with a unit prior on the shift."""
    n = len(log_p)

    def loss(theta: Floats) -> tuple[float, Floats]:
        factor, added = np.exp(theta[0]), theta[1:]
        log_q = log_softmax(factor * log_p + added, axis=1)
        error = true - np.exp(log_q)
        value = -(true * log_q).sum() + 0.5 * (added**2).sum()
        gradient = np.concatenate([[-factor * (error * log_p).sum()], added - error.sum(0)])
        return value / n, gradient / n

    theta = minimize(loss, np.concatenate([[np.log(scale)], shift]), jac=True, method="L-BFGS-B", options=STEPS).x
    return float(np.exp(theta[0])), theta[1:]


STEPS = {"maxiter": 10}
