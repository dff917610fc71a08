"""Wrong labels found by a model of label noise and by cleanlab, from the same out-of-sample predictions.

`python -m benchmarks.label_issues DATA KIND RESULT.json [SAMPLES [EPOCHS]]`: DATA as `--data` spells it. 10% of the
labels become another class: KIND `random`, uniformly; `confused`, the class that judges of the right labels confuse it
with most. The judges are thin ResNets of three folds. Cleanlab is also run on its own: `CleanLearning` with its default
classifier, logistic regression, on the pixels.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from cleanlab.classification import CleanLearning
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.__main__ import describe
from easycoreset import open_source, train
from easycoreset.auditing import label_issues
from easycoreset.data import data_name

SHARE = 0.1
FOLDS = 3
BATCH = 500
MAX_ITERATIONS = 100  # of logistic regression: scikit-learn's default
RESAMPLES = 1000
QUALITIES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
TOLD = ("noise", "called", "label_noise_at_as_many", "average_precision", "average_precision_gain_over")
FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning")


def judge(x: np.ndarray, y: np.ndarray, epochs: int) -> np.ndarray:
    """[N,K], probabilities of models that were trained on the other folds."""
    p = np.zeros((len(y), int(y.max()) + 1), np.float32)
    for seed, (rest, fold) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, y)):
        data = (x[rest], y[rest]), (x[fold], y[fold])
        model = train(data=data, model="thin-resnet", epochs=epochs, seed=seed, augment="crop-flip").eval()
        with torch.no_grad():
            for start in range(0, len(fold), BATCH):
                rows = fold[start : start + BATCH]
                images = torch.from_numpy(x[rows]).permute(0, 3, 1, 2).float() / 255
                p[rows] = model(images).softmax(1).numpy()
        print(f"fold {seed}: {np.mean(p[fold].argmax(1) == y[fold]):.3f} predicted as labelled", flush=True)
    return p


def flip(kind: str, x: np.ndarray, true: np.ndarray, epochs: int) -> np.ndarray:
    """Labels of which a share is wrong."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(true), round(SHARE * len(true)), replace=False)
    classes = int(true.max()) + 1
    given = true.copy()
    if kind == "random":
        given[rows] = (true[rows] + rng.integers(1, classes, len(rows))) % classes
        return given
    p = judge(x, true, epochs)
    confusion = np.stack([p[true == k].mean(0) for k in range(classes)])
    np.fill_diagonal(confusion, 0)
    given[rows] = confusion.argmax(1)[true[rows]]
    return given


def found(wrong: np.ndarray, called: np.ndarray) -> dict:
    """How many are called, and how well."""
    hits = int(wrong[called].sum())
    return {"called": int(called.sum()), "precision": hits / max(called.sum(), 1), "recall": hits / int(wrong.sum())}


def cleanlab_alone(x: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which labels cleanlab calls wrong by models of its own, and how likely each is wrong, in its order."""
    pixels = x.reshape(len(x), -1).astype(np.float32) / 255
    judged = CleanLearning(LogisticRegression(max_iter=MAX_ITERATIONS), seed=0).find_label_issues(pixels, given)
    return judged["is_label_issue"].to_numpy(), -judged["label_quality"].to_numpy()


def gains(wrong: np.ndarray, ours: np.ndarray, others: dict[str, np.ndarray]) -> dict[str, dict]:
    """Average precision beyond that of each other score, with a 95% interval of resampled samples."""
    rng = np.random.default_rng(2)
    draws = [rng.integers(0, len(wrong), len(wrong)) for _ in range(RESAMPLES)]
    base = np.array([average_precision_score(wrong[rows], ours[rows]) for rows in draws])
    total = average_precision_score(wrong, ours)
    intervals = {}
    for name, score in others.items():
        drawn = base - [average_precision_score(wrong[rows], score[rows]) for rows in draws]
        low, high = np.quantile(drawn, [0.025, 0.975])
        gain = total - average_precision_score(wrong, score)
        intervals[name] = {"gain": float(gain), "low": float(low), "high": float(high)}
    return intervals


def main() -> None:
    """Flip, judge, compare, print and write."""
    torch.set_num_threads(1)
    data, kind, result = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    samples, epochs = (int(text) for text in [*sys.argv[4:], *("20000", "15")[len(sys.argv) - 4 :]])
    split = open_source(data).splits["train"]
    rows = np.random.default_rng(1).permutation(len(split))[:samples]
    x, true = split.images.pixels.numpy()[rows], split.labels[rows]
    given = flip(kind, x, true, epochs)
    wrong = given != true
    p = judge(x, given, epochs).astype(np.float64)
    issues = label_issues.find_label_issues(p, given)
    q, likely = issues.suspicion, issues.called_wrong
    ours = {**found(wrong, likely), "expected_precision": float(q[likely].mean()) if likely.any() else None}
    cleanlab = {name: found(wrong, find_label_issues(given, p, filter_by=name)) for name in FILTERS}
    alone, alone_quality = cleanlab_alone(x, given)
    cleanlab["alone"] = found(wrong, alone)
    places = np.argsort(np.argsort(-q, kind="stable"))
    as_many = {name: found(wrong, places < value["called"]) for name, value in cleanlab.items()}
    qualities = {f"cleanlab {name}": -get_label_quality_scores(given, p, method=name) for name in QUALITIES}
    qualities["cleanlab alone"] = alone_quality
    record = {
        **describe(),
        "command": f"python -m benchmarks.label_issues {data_name(data)}:DIR {kind} {result} {samples} {epochs}",
        "data": data_name(data),
        "flips": kind,
        "samples": samples,
        "wrong": int(wrong.sum()),
        "predicted_as_labelled": float((p.argmax(1) == given).mean()),
        "noise": {"estimated": float(q.mean()), "scale": issues.noise.scale},
        "called": {"label_noise": ours, **{f"cleanlab {name}": value for name, value in cleanlab.items()}},
        "label_noise_at_as_many": {f"cleanlab {name}": value for name, value in as_many.items()},
        "average_precision": {
            "label_noise": float(average_precision_score(wrong, q)),
            **{name: float(average_precision_score(wrong, value)) for name, value in qualities.items()},
        },
        "average_precision_gain_over": gains(wrong, q, qualities),
    }
    print(
        json.dumps(
            {name: record[name] for name in TOLD},
            indent=1,
        )
    )
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
