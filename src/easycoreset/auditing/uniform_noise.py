"""Which labels are probably wrong if noise is uniform over the classes: only the probability of the label matters."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_SHARE = 0.5  # largest share of wrong labels


@dataclass(frozen=True)
class UniformNoise:
    """A model of the labels: wrong ones are drawn uniformly from the other classes.

    Under this model only the judge's probability of the given label matters, not how the rest is spread over the other
    classes: labels are ranked by this probability (cleanlab's self-confidence).

    Attributes:
        scale: what the logits of the judge's single probabilities are multiplied by; below 1 where it is too confident.
        shift: what is added to them.
        share: share of wrong labels.
        classes: number of classes.
    """

    scale: float
    shift: float
    share: float
    classes: int

    def probability_wrong(self, p: npt.NDArray[np.floating], labels: Ints) -> Floats:
        """[N], the probability that each label is wrong, of a judge's out-of-sample probabilities [N,K]."""
        calibrated = expit(self.scale * _logit(p[np.arange(len(labels)), labels]) + self.shift)
        wrong = (1 - calibrated) * self.share / (self.classes - 1)
        return wrong / (wrong + calibrated * (1 - self.share))


def fit_uniform_noise(p: npt.NDArray[np.floating], labels: Ints, share: float, prior_samples: float) -> UniformNoise:
    """Fit the probability of a label as a logistic curve of the judge's probability of it, between two limits.

    Each pair of a sample and a class is one case, which is either the given label or not. The lower limit is the share
    of wrong labels that fall on a class, the upper limit is the share of labels that are not wrong.

    Args:
        p: [N,K], out-of-sample probabilities of a judge.
        labels: [N], the given labels.
        share: prior share of wrong labels.
        prior_samples: number of samples that the prior share counts as.
    """
    n, classes = p.shape
    z = _logit(p)
    is_label = np.zeros(p.shape, bool)
    is_label[np.arange(n), labels] = True

    def loss(theta: Floats) -> float:
        wrong = MAX_SHARE * expit(theta[2])
        floor = wrong / (classes - 1)
        shown = floor + (1 - wrong - floor) * expit(np.exp(theta[0]) * z + theta[1])
        likelihood = np.log(np.where(is_label, shown, 1 - shown)).sum()
        prior = share * np.log(wrong) + (1 - share) * np.log1p(-wrong)
        return -(likelihood + prior_samples * prior - 0.5 * theta[1] ** 2) / n

    start = np.array([0.0, 0.0, np.log(share / (MAX_SHARE - share))])
    theta = minimize(loss, start, method="Nelder-Mead").x
    return UniformNoise(float(np.exp(theta[0])), float(theta[1]), float(MAX_SHARE * expit(theta[2])), classes)


def _logit(p: npt.NDArray[np.floating]) -> Floats:
    clipped = np.clip(p.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)
