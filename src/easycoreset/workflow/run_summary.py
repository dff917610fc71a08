"""The summary of `run`: its models side by side, the one to take, and the gain from changing the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from easycoreset.data import Source
from easycoreset.data.content_hashes import find_training_samples
from easycoreset.evaluation.result import Evaluation, read_evaluation
from easycoreset.models.card import read_card
from easycoreset.plan_folders import TRAINED_ON
from easycoreset.records import read_summary
from easycoreset.statistics.intervals import paired_difference
from easycoreset.tables import Coreset, Scores
from easycoreset.workflow.defaults import RunDefaults
from easycoreset.workflow.steps import Step, spell_command


def summarise(choices: RunDefaults, steps: Mapping[str, Step], earlier: Path | None, out: Path) -> dict[str, Any]:
    """The comparison of the three models, and of the model of all samples with the one from before.

    Args:
        choices: the options, the data set and the budget.
        steps: the finished steps by name.
        earlier: the folder of the scoring run whose scores were reused, if any.
        out: the plan's folder.
    """
    options = choices.options
    results = {name: read_evaluation(steps[f"evaluate {name}"].folder(out)) for name in TRAINED_ON}
    objectives = dict.fromkeys(results, options.objective) | {"all": "standard"}
    rows = [{"trained_on": n, "objective": objectives[n], **describe(result)} for n, result in results.items()]
    against = {name: compare_outcomes(results["coreset"], results[name]) for name in ("random", "all")}
    changed: dict[str, Any] = {}
    if earlier is not None:
        before = read_evaluation(steps["evaluate before"].folder(out))
        gain = compare_with_earlier(results["all"], before, choices.source, (earlier, steps["train all"].folder(out)))
        matched = read_summary(steps["score"].folder(out) / "run.json")
        changed = {} if gain is None else {"earlier": {**matched, **gain, "unscored": _count_unscored(steps, out)}}
    return changed | {
        "rows": rows,
        "against": against,
        "recommended": recommend(results),
        "classes": count_classes(Coreset.read(steps["choose coreset"].folder(out) / "coreset.parquet")),
        "method": options.method,
        "fraction": options.fraction,
        "per_class": options.per_class,
        "command": spell_command(steps["train coreset"], coreset=out / "coreset.parquet", out=out.name + "-mine"),
        "updates": choices.updates,
        "epochs": options.epochs,
        "model": options.model,
    }


def compare_with_earlier(
    now: Evaluation, before: Evaluation, source: Source, models: Sequence[Path]
) -> dict[str, Any] | None:
    """The gain from changing the data: both accuracies on the same test images, and the gain, also for each class.

    Images that one of the models was trained on are left out, because an earlier training image may be a test image
    now. None if no image is left.
    """
    split, rows = source.splits["test"], now.clean.index
    unseen = np.ones(len(rows), np.bool_)
    for folder in models:
        seen = find_training_samples(split, rows, read_card(folder).trained_on or {})
        unseen &= True if seen is None else ~seen
    if not unseen.any():
        return None
    labels = np.where(unseen, split.labels[rows], -1)
    classes = [
        {"class": str(source.class_names[k]), "samples": int((labels == k).sum()), **_compare(now, before, labels == k)}
        for k in np.unique(labels[unseen]).tolist()
    ]
    attacked = [
        {"eps": a.eps, **_compare_rows(~a.broken[unseen], ~b.broken[unseen])}
        for a, b in zip(now.worst, before.worst, strict=True)
    ]
    return {
        "samples": int(unseen.sum()),
        "seen": int((~unseen).sum()),
        "clean": _compare(now, before, unseen),
        "worst": attacked,
        "by_class": classes,
    }


def _count_unscored(steps: Mapping[str, Step], out: Path) -> dict[str, int]:
    """How many samples without a score are there, in the coreset, and among the random samples."""
    unscored = Scores.read(steps["score"].folder(out)).n_obs == 0
    chosen = {
        name: Coreset.read(steps[f"choose {name}"].folder(out) / "coreset.parquet").keep
        for name in ("coreset", "random")
    }
    return {"all": int(unscored.sum()), **{name: int((keep & unscored).sum()) for name, keep in chosen.items()}}


def _compare(now: Evaluation, before: Evaluation, rows: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Clean accuracy now and before on some of the images, and the gain."""
    return _compare_rows(~now.clean.broken[rows], ~before.clean.broken[rows])


def _compare_rows(now: npt.NDArray[np.bool_], before: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Two accuracies by who is right on each image, and the gain."""
    return {"accuracy": float(now.mean()), "before": float(before.mean()), **paired_difference(now, before)}


def recommend(results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The model for ordinary images, the one for images under attack, and what the second gains over the first.

    For images under attack, the accuracy at the middle radius decides, and among models that are equal without one.
    """
    middle = (len(next(iter(results.values())).worst) - 1) // 2
    clean = max(results, key=lambda name: (results[name].clean.accuracy, results[name].worst[middle].accuracy))
    robust = max(results, key=lambda name: (results[name].worst[middle].accuracy, results[name].clean.accuracy))
    eps = results[clean].worst[middle].eps
    return {"clean": clean, "robust": robust, "eps": eps, "gains": compare_outcomes(results[robust], results[clean])}


def compare_outcomes(first: Evaluation, second: Evaluation) -> list[dict[str, float]]:
    """The gain in accuracy of the first model over the second on the same images: clean (eps 0), and at each eps."""
    pairs = [(first.clean, second.clean), *zip(first.worst, second.worst, strict=True)]
    return [{"eps": a.eps, **paired_difference(~a.broken, ~b.broken)} for a, b in pairs]


def count_classes(coreset: Coreset) -> list[dict[str, Any]]:
    """The number of samples of each class before and after selection."""
    before, after = coreset.class_counts()
    names = coreset.provenance["class_names"]
    return [{"class": name, "before": int(b), "after": int(a)} for name, b, a in zip(names, before, after, strict=True)]


def describe(result: Evaluation) -> dict[str, Any]:
    """Clean and worst-case accuracy with confidence intervals, and warnings."""
    summary = result.summary()
    return {"clean": summary["clean"], "worst": summary["worst"], "warnings": summary["warnings"]}
