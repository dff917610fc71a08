"""Judge labels by logistic regression on features from elsewhere."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from easycoreset.auditing.judgement import FOLDS, Judgement, divide
from easycoreset.auditing.oddness import measure_oddness
from easycoreset.data import Source
from easycoreset.data.unscored import unscored_table
from easycoreset.process_group import preserve_rng
from easycoreset.tables.foreign_features import with_features

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

STRENGTHS = (1.0, 0.1, 0.01, 0.001)  # inverse regularisation, among which logistic regression chooses


@preserve_rng()
def judge_by_features(file: Path, source: Source, groups: Ints, seed: int) -> Judgement:
    """Judge each fold of the training samples by logistic regression on the features of the other folds."""
    features = np.asarray(with_features(unscored_table(source), file).features, np.float32)
    labels = source.splits["train"].labels
    classes = len(source.class_names)
    p = np.zeros((len(labels), classes), np.float32)
    oddness = np.zeros(len(labels), np.float32)

    def quality(strength: float, rows: Ints) -> float:
        """The cross-validated log-probability of the labels of some samples, summed."""
        total = 0.0
        for rest, fold in divide(labels[rows], groups[rows], FOLDS, seed):
            known, judged = rows[rest], rows[fold]
            found = regress_labels(features[known], labels[known], features[judged], classes, strength)
            total += float(np.log(found[np.arange(len(judged)), labels[judged]] + 1e-12).sum())
        return total

    for rest, fold in divide(labels, groups, FOLDS, seed):
        strength = max(STRENGTHS, key=lambda strength, rest=rest: quality(strength, rest))
        p[fold] = regress_labels(features[rest], labels[rest], features[fold], classes, strength)
        distances = measure_oddness(features[rest], features[fold])
        oddness[fold] = distances / np.median(distances)
    return Judgement("features", {"train": p}, {"train": oddness}, {"features": features.shape[1], "folds": FOLDS})


def regress_labels(known: Floats, labels: Ints, features: Floats, classes: int, strength: float) -> Floats:
    """[n, classes] probabilities of `features` [n, d], by logistic regression on `known` [m, d] and their labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(known, labels)
    p = np.zeros((len(features), classes), np.float32)
    p[:, model.classes_] = model.predict_proba(features)
    return p
