"""Which labels are called wrong, and how reliable the judge is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.label_noise import LabelNoise, fit_label_noise
from easycoreset.auditing.uniform_noise import UniformNoise
from easycoreset.proportions import wilson_interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]

LIKELY = 0.35  # a label is called wrong above this probability; most labels that are called wrong are wrong
MIN_SKILL = 0.25  # lowest `judge_skill` of a judge that may call labels wrong
MIN_SCALE = 0.5  # lowest scale of the judge's log-probabilities; a judge that has memorised is far too confident


@dataclass(frozen=True)
class LabelIssues:
    """What is known of N labels.

    Attributes:
        suspicion: [N] the probability that the label is wrong.
        called_wrong: [N] whether it is called wrong.
        noise: the fitted model of the labels.
        accuracy: [K] share of the samples of a class that the judge predicts as they are labelled; NaN without any.
        weak_classes: [K] whether the judge knows a class too little to call a label of it wrong.
    """

    suspicion: Floats
    called_wrong: Flags
    noise: LabelNoise | UniformNoise
    accuracy: Floats
    weak_classes: Flags


def find_label_issues(p: Floats, labels: Ints, noise: LabelNoise | UniformNoise | None = None) -> LabelIssues:
    """Call a label wrong if it is wrong with a probability above 0.35 and the judge predicts another class.

    Among the labels that are called wrong, the expected share of wrong ones is the mean of their `suspicion`, about
    0.7. No label is called wrong in a class that the judge does not predict better than chance, or by a judge that is
    far too confident or hardly better than one that always predicts the largest class.

    Args:
        p: [N,K] probabilities of a judge.
        labels: [N] the given labels.
        noise: a fitted model of the labels; None to fit one.
    """
    noise = fit_label_noise(p, labels) if noise is None else noise
    predicted = p.argmax(1)
    suspicion = noise.probability_wrong(p, labels)
    accuracy, weak = measure_classes(predicted, labels, p.shape[1])
    weak |= noise.scale < MIN_SCALE or judge_skill(float(np.mean(predicted == labels)), labels) < MIN_SKILL
    called_wrong = (suspicion > LIKELY) & (predicted != labels) & ~weak[labels]
    return LabelIssues(suspicion, called_wrong, noise, accuracy, weak)


def judge_skill(accuracy: float, labels: Ints) -> float:
    """The skill of a judge: 0 if it is as good as always predicting the largest class, 1 if it is always right.

    >>> judge_skill(0.9, np.array([0, 0, 0, 1])), judge_skill(0.75, np.array([0, 0, 0, 1]))
    (0.6, 0.0)
    """
    largest = float(np.bincount(labels).max() / len(labels))
    return round((accuracy - largest) / max(1 - largest, 1e-9), 6)


def measure_classes(predicted: Ints, labels: Ints, classes: int) -> tuple[Floats, Flags]:
    """The judge's accuracy on each class, and whether it may be chance, both [K].

    It may be chance if its 95% interval reaches the share of all samples that are predicted as the class, or if it is
    below half of 1 / classes.

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
