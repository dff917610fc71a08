"""Summaries of an evaluation, a training run, scores and a coreset, for the terminal, the page and the cards."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from easycoreset.console import format_eps, format_percent
from easycoreset.data_specs import data_name
from easycoreset.documents import DataTable, Figure, Section, Share
from easycoreset.documents.beyond_the_ball import describe_certificates, describe_corruptions
from easycoreset.documents.check_words import describe_check
from easycoreset.documents.plots import eps_layout, error_bars, line_trace

Json = Mapping[str, Any]
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


MAX_SHARE_RATIO = 1.5  # a class drifts if its kept share differs by more than this factor from that of all samples
DRIFT_SAMPLES = 20  # a class of which fewer kept samples are expected is not checked for drift
DRIFT_NAMED = 6


def describe_outcomes(summary: Json) -> list[Section]:
    """The sections of a finished evaluation: accuracies with intervals, distances, warnings and checks."""
    attacked, checks = summary["attacked"], summary["checks"]
    lines = [summary["clean"], *attacked, *(summary["worst"] if len({e["attack"] for e in attacked}) > 1 else ())]
    rows = [
        [e["attack"], e["norm"] or None, format_eps(e["eps"]), *(round(100 * e[k], 2) for k in SHARES), e["samples"]]
        for e in lines
    ]
    where = f" on split {summary['split']} of {data_name(summary['data'])}" if "data" in summary else ""
    caption = f"accuracy in %{where}, with 95% Wilson intervals"
    accuracies = DataTable(caption, ["attack", "norm", "eps", *SHARES, "samples"], rows)
    worst = ", ".join(f"{100 * e['accuracy']:.1f}% at eps {format_eps(e['eps'])}" for e in summary["worst"])
    passed = sum(check["passed"] for check in checks)
    paragraphs = [
        f"Clean accuracy {100 * summary['clean']['accuracy']:.1f}%; under the worst attack {worst}.",
        *map(_describe_margins, summary.get("margins", ())),
        *_describe_calibration(summary),
        f"{passed} of {len(checks)} checks of the evaluation found nothing wrong.",
    ]
    check_rows = [
        [describe_check(c["name"]), "fine" if c["passed"] else f"WRONG: {c['message']}", c["figure"], c["name"]]
        for c in checks
    ]
    attacks = dict.fromkeys(e["attack"] for e in attacked)
    traces = [
        accuracy_trace(name, number, [summary["clean"], *(e for e in attacked if e["attack"] == name)])
        for number, name in enumerate(attacks)
    ]
    plot = Figure("accuracy under attack over eps, with 95% Wilson intervals", traces, eps_layout(radii_of(attacked)))
    warnings = [f"warning: {text}" for text in summary["warnings"]]
    columns = ["what was tried", "what was found", "figure", "check"]
    tables = [DataTable("checks", columns, check_rows, details=columns[2:])]
    return [
        Section("Evaluation", paragraphs, bullets=warnings, figures=[plot], tables=[accuracies], brief=True),
        *describe_corruptions(summary),
        *describe_certificates(summary),
        *describe_each_class(summary),
        Section("Checks of the evaluation", tables=tables),
    ]


def _describe_calibration(summary: Json) -> list[str]:
    """How sure the model is and how often it is right; nothing where that was not measured."""
    found = summary.get("calibration", {})
    if found.get("temperature") is None:
        return []
    return [
        f"On average the model is {100 * found['confidence']:.1f}% sure of its prediction (expected calibration error "
        f"{100 * found['error']:.1f}%). With its logits divided by a temperature of {found['temperature']:.2f}, it is "
        f"{100 * found['calibrated_confidence']:.1f}% sure (error {100 * found['calibrated_error']:.1f}%)."
    ]


def describe_each_class(summary: Json) -> list[Section]:
    """The accuracy of each class, and which classes are taken for which; nothing of an evaluation that lacks them."""
    classes, confusions = summary.get("classes", []), summary.get("confusions", [])
    if not classes:
        return []
    worst = min(classes, key=lambda line: line["accuracy"])
    bullets = [
        f"Balanced accuracy, in which every class counts the same: {100 * summary['balanced_accuracy']:.1f}%.",
        f"The worst class is {worst['class']}: {100 * worst['accuracy']:.1f}% of {worst['samples']} samples "
        f"({100 * worst['low']:.1f} to {100 * worst['high']:.1f}).",
    ]
    if confusions:
        first = confusions[0]
        bullets.append(f"Most often {first['label']} is taken for {first['predicted']}: {first['count']} times.")
    eps = [f"eps {format_eps(line['eps'])}" for line in summary["worst"]]
    rows = [
        [
            c["class"],
            c["samples"],
            *(round(100 * c[k], 2) for k in SHARES),
            *(round(100 * value, 2) for value in c["worst"]),
        ]
        for c in classes
    ]
    tables = [DataTable("accuracy of each class in %", ["class", "samples", *SHARES, *eps], rows)]
    if confusions and len(classes) <= MAX_MATRIX:
        tables.append(_confusion_matrix(classes, confusions))
    elif confusions:
        lines = [[c["label"], c["predicted"], c["count"]] for c in confusions]
        tables.append(DataTable("classes taken for others", ["class", "taken for", "times"], lines))
    return [Section("Each class", bullets=bullets, tables=tables)]


def _confusion_matrix(classes: Sequence[Json], confusions: Sequence[Json]) -> DataTable:
    """How many samples of each class (row) are taken for each (column)."""
    names = list(dict.fromkeys([*(c["class"] for c in classes), *(c["predicted"] for c in confusions)]))
    count = {(c["label"], c["predicted"]): c["count"] for c in confusions}
    count |= {(c["class"], c["class"]): round(c["accuracy"] * c["samples"]) for c in classes}
    rows = [[c["class"], *(count.get((c["class"], name), 0) for name in names)] for c in classes]
    return DataTable(
        "number of samples of each class (row) that are predicted as each class (column)", ["class", *names], rows
    )


MAX_MATRIX = 20  # classes of which a confusion matrix is shown


SHARES = ("accuracy", "low", "high")


def radii_of(lines: Sequence[Json]) -> list[float]:
    """The radii of some accuracies."""
    return [line["eps"] for line in lines]


def accuracy_trace(name: str, number: int, lines: Sequence[Json]) -> dict[str, Any]:
    """A line of accuracies in % over eps, with the bars of their intervals."""
    lines = sorted(lines, key=lambda line: line["eps"])
    bars = error_bars([100 * (line["high"] - line["accuracy"]) for line in lines])
    bars |= {"symmetric": False, "arrayminus": [100 * (line["accuracy"] - line["low"]) for line in lines]}
    return line_trace(name, number, radii_of(lines), [100 * line["accuracy"] for line in lines], error_y=bars)


def _describe_margins(line: Json) -> str:
    median = line["median_upper_bound"]
    distance = "not known" if median is None else f"at most {median:.4g}"
    found = f"a distance was found for {line['found']:.1%} of {line['samples']} samples"
    return f"{line['attack']}: the median {line['norm']} distance to the boundary is {distance}; {found}."


def describe_run_summary(summary: Json) -> str:
    """What a training or scoring run did, in a sentence."""
    start = f"{summary['model']} on {summary['samples']} samples of {summary['data']}"
    if "checkpoints" in summary:
        return f"{start}, scored with {len(summary['checkpoints'])} checkpoints."
    loss = "no finite loss" if summary["loss"] is None else f"loss {summary['loss']:.4f}"
    seconds = f"{summary['seconds']:.0f} s of training"
    done = f"{start}, {summary['objective']}: {summary['updates']} updates, {loss}, {seconds}."
    return f"{done} {_describe_sampling(summary)}" if "sampling" in summary else done


def _describe_sampling(summary: Json) -> str:
    """What a dynamic method trained on, and what choosing cost."""
    sampling = summary["sampling"]
    share = f"{sampling['method']} trained on {format_percent(sampling['mean_share'])} of the samples in an epoch"
    seen = f"{format_percent(sampling['distinct_samples'] / summary['samples'])} in all"
    cost = f"{sampling['selection_passes']} passes over all samples, {sampling['selection_seconds']:.0f} s"
    return f"{share}, {seen}; choosing took {cost}."


def summarise_hardness(columns: Mapping[str, np.ndarray]) -> DataTable:
    """The quartiles of every hardness."""
    rows: list[list[Any]] = []
    for name, values in columns.items():
        finite = values[np.isfinite(values)].astype(float)
        quartiles = np.quantile(finite, QUARTILES).tolist() if len(finite) else [None] * len(QUARTILES)
        rows.append([name, *quartiles, len(values) - len(finite)])
    names = ["hardness", "easiest", "1st quartile", "median", "3rd quartile", "hardest", "undefined"]
    return DataTable("every hardness; higher is harder", names, rows, details=("1st quartile", "3rd quartile"))


def describe_drift(names: Sequence[str], before: Sequence[int], kept: Sequence[int]) -> list[str]:
    """A sentence where classes keep far less or far more than their share; nothing where none does."""
    share = sum(kept) / max(sum(before), 1)
    shares = {name: k / n for name, n, k in zip(names, before, kept, strict=False) if share * n >= DRIFT_SAMPLES}
    far = {name: own for name, own in shares.items() if not share / MAX_SHARE_RATIO <= own <= share * MAX_SHARE_RATIO}
    if not far:
        return []
    ends = sorted(far, key=lambda name: far[name])
    shown = ends if len(ends) <= DRIFT_NAMED else [*ends[: DRIFT_NAMED // 2], *ends[-(DRIFT_NAMED // 2) :]]
    text = ", ".join(f"{format_percent(round(far[name], 2))} of {name}" for name in shown)
    more = f" and {len(ends) - len(shown)} more classes" if len(ends) > len(shown) else ""
    hint = "per_class (--per-class) keeps the shares of the classes, if the method has this option"
    return [f"Classes are kept in unequal shares: {text}{more}; {hint}."]


def count_classes(names: Sequence[str], before: Sequence[int], kept: Sequence[int]) -> DataTable:
    """The samples of each class, and how many of them a coreset keeps."""
    rows = [[name, n, k, Share(k / n) if n else None] for name, n, k in zip(names, before, kept, strict=False)]
    return DataTable("samples of each class", ["class", "before", "kept", "share"], rows)
