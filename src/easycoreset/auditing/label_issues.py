"""Which labels are called wrong, and how far the judge can be believed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.label_noise import LabelNoise, fit_label_noise
from easycoreset.auditing.uniform_noise import UniformNoise
from easycoreset.proportions import wilson_interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]

LIKELY = 0.35  # probability from which on a label is called wrong: of those that are called most are wrong
MIN_SKILL = 0.25  # of a judge: 0 for one that always names the largest class, 1 for one that is always right
MIN_SCALE = 0.5  # of the judge's log-probabilities; one that has memorised claims far more than is true


@dataclass(frozen=True)
class LabelIssues:
    """What is known of N labels.

    Attributes:
        suspicion: [N] the probability that the label is wrong.
        likely: [N] whether it is called wrong.
        noise: the fitted model of the labels.
        accuracy: [K] share of the samples of a class that the judge predicts as they are labelled; NaN without any.
        weak: [K] whether the judge knows a class too little to call a label of it wrong.
    """

    suspicion: Floats
    likely: Flags
    noise: LabelNoise | UniformNoise
    accuracy: Floats
    weak: Flags


def find_label_issues(p: Floats, labels: Ints, noise: LabelNoise | UniformNoise | None = None) -> LabelIssues:
    """Call labels wrong that are so with a probability of 0.35 or more; never one that the judge predicts too.

    The expected share of wrong ones among those that are called is the mean of their `suspicion`, some 0.7. Nothing is
    called in a class that the judge does not predict better than chance, nor by a judge that believes itself far too
    much, or that is hardly better than one who always names the largest class.

    Args:
        p: [N,K] probabilities of a judge.
        labels: [N] the given labels.
        noise: a model of the labels that is fitted already.
    """
    noise = fit_label_noise(p, labels) if noise is None else noise
    predicted = p.argmax(1)
    suspicion = noise.probability_wrong(p, labels)
    accuracy, weak = measure_classes(predicted, labels, p.shape[1])
    weak |= noise.scale < MIN_SCALE or judge_skill(float(np.mean(predicted == labels)), labels) < MIN_SKILL
    likely = (suspicion > LIKELY) & (predicted != labels) & ~weak[labels]
    return LabelIssues(suspicion, likely, noise, accuracy, weak)


def judge_skill(accuracy: float, labels: Ints) -> float:
    """How far a judge is better than one who always names the largest class.

    >>> judge_skill(0.9, np.array([0, 0, 0, 1])), judge_skill(0.75, np.array([0, 0, 0, 1]))
    (0.6, 0.0)
    """
    largest = float(np.bincount(labels).max() / len(labels))
    return round((accuracy - largest) / max(1 - largest, 1e-9), 6)


def measure_classes(predicted: Ints, labels: Ints, classes: int) -> tuple[Floats, Flags]:
    """The share of each class that is predicted as labelled, and whether it may be chance.

    Chance is the share of all samples that are predicted as the class, and at least half of a fair guess.

    >>> measure_classes(np.array([0] * 50), np.array([0] * 40 + [1] * 10), 2)[1].tolist()
    [True, True]
    """
    right = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(labels, minlength=classes)
    chance = np.bincount(predicted, minlength=classes) / max(len(labels), 1)
    lowest = np.array([wilson_interval(int(r), int(n))[0] if n else 0.0 for r, n in zip(right, total, strict=True)])
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = right / total
        return accuracy, (lowest <= chance) | ~(accuracy >= 0.5 / classes)
