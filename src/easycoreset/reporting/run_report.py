"""The report of `run`: the effect of the coreset, then the audit of the data, then hardness."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.decisions import DECIDED
from easycoreset.documents import DataTable, Figure, Section, without_brief
from easycoreset.documents.plots import eps_layout
from easycoreset.documents.summaries import accuracy_trace, count_classes, describe_drift
from easycoreset.plan_folders import RUN_MODELS, TRAINED_ON
from easycoreset.records import read_record
from easycoreset.reporting.audit import describe_audit_briefly
from easycoreset.reporting.score_report import describe_scores
from easycoreset.reporting.training_report import describe_evaluation

NAMES = {"coreset": "coreset", "random": "random, same size", "all": "all samples"}


def describe_run(folder: Path) -> list[Section]:
    """The sections of a folder that `run` wrote."""
    comparison = read_record(folder / "comparison.json")
    audited = describe_audit_briefly(folder / "audit") if (folder / "audit" / "audit.parquet").exists() else []
    more = describe_scores(folder / "scores", [comparison["fraction"]])
    more += describe_evaluation(folder / "evaluation" / "coreset", "the coreset's model")
    changed = [describe_change(comparison["earlier"])] if "earlier" in comparison else []
    if "command" in comparison:
        more.append(Section("Train the coreset's model yourself", code=comparison["command"]))
    return [
        _summary(comparison, audited[:1], is_decided=(folder / "audit" / DECIDED).exists()),
        *changed,
        *_describe_effect(comparison),
        *without_brief([*audited, *more]),
    ]


def _summary(comparison: dict[str, Any], audited: Sequence[Section], is_decided: bool) -> Section:
    """What was found in the data, which model to take, and what to do next, for readers who know no terms."""
    bullets = [text for section in audited for text in section.bullets]
    if bullets:
        again = " (they hold those that this run was given)" if is_decided else ""
        bullets.append(
            f"Open audit/report.html, decide there, save the decisions{again}, and run the command again with "
            "--decisions decisions.json: it continues from here, and reports the effect of the decisions."
        )
    if "recommended" in comparison:
        bullets += recommend_models(comparison["recommended"], comparison["rows"])
    return Section("What to do", bullets=bullets, brief=True)


def describe_change(earlier: dict[str, Any]) -> Section:
    """The gain from cleaning or changing the data: the models of all samples before and after."""
    clean = earlier["clean"]
    words = _changes(clean)
    heading = (
        f"Effect of changing the data: {words}"
        if _differs(clean)
        else "Effect of changing the data: no detectable difference without an attack"
    )
    kept, unscored = earlier["matched"] - earlier["relabelled"], earlier["unscored"]
    facts = [
        f"Changes since the last `run`: {_count(earlier['gone'])} removed, {_count(earlier['new'])} added, "
        f"{_count(earlier['relabelled'])} with another label. The scores of the other {kept:,} were taken over. "
        f"Pictures without a score come last when a coreset is chosen: of these {unscored['all']:,} the coreset has "
        f"{unscored['coreset']:,}, the random samples have {unscored['random']:,} (another --out scores all pictures).",
        "Two models of all samples, one trained on the data before the change and one after it, in the same way and "
        f"for the same number of updates, are compared on the same {earlier['samples']:,} test pictures, with the "
        "labels that these have now."
        + (f" {_count(earlier['seen'])} that one of them was trained on are left out." if earlier["seen"] else ""),
    ]
    worst = [(f"under the worst attack at eps {format_eps(line['eps'])}", line) for line in earlier["worst"]]
    lines = [("without an attack", clean), *worst]
    bullets = [
        f"{name}: {100 * line['before']:.1f}% before, {100 * line['accuracy']:.1f}% after; {_changes(line)}."
        for name, line in lines
    ]
    rows = [
        [
            line["class"],
            line["samples"],
            *(round(100 * line[name], 1) for name in ("before", "accuracy", "difference", "low", "high")),
        ]
        for line in earlier["by_class"]
    ]
    columns = ["class", "test pictures", "before", "after", "points", "from", "to"]
    table = DataTable("clean accuracy in % of each class, and the change with its 95% interval", columns, rows)
    note = "An interval in twenty misses the true change by chance. Each model was trained with one seed."
    return Section(heading, [*facts, note], bullets=bullets, tables=[table], brief=True)


def _count(number: int) -> str:
    return f"{number:,} picture{'s' * (number != 1)}"


def _changes(line: dict[str, float]) -> str:
    """A change of accuracy with its interval, in points."""
    points, low, high = (100 * line[name] for name in ("difference", "low", "high"))
    return f"{points:+.1f} points ({low:.1f} to {high:.1f}{_caveat(line)})"


def recommend_models(recommended: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Which model to use for ordinary pictures and which under attack, at what cost, and how certain that is."""
    accuracy = {row["trained_on"]: row["clean"]["accuracy"] for row in rows}
    clean, robust = recommended["clean"], recommended["robust"]
    change = f"every pixel value changed by up to {format_eps(recommended['eps'])}"
    right = f"it is right on {100 * accuracy[clean]:.1f}% of the test pictures"
    taken = f"the model of {TRAINED_ON[clean]} ({RUN_MODELS[clean]}/)"
    if clean == robust:
        return [f"Take {taken}, for ordinary pictures ({right}) and for tampered ones ({change}) alike."]
    gains = recommended["gains"]
    attacked = next(gain for gain in gains if gain["eps"] == recommended["eps"])
    if not _differs(attacked):
        return [
            f"Take {taken}: {right}. No other model is shown to withstand tampering ({change}) better: of 100 "
            f"tampered pictures the best of them is right on {_points(attacked)}."
        ]
    return [
        f"For ordinary pictures take {taken}: {right}.",
        f"Where somebody may tamper with pictures take the model of {TRAINED_ON[robust]} ({RUN_MODELS[robust]}/): of "
        f"100 ordinary pictures it is right on {_points(gains[0])}, of 100 with {change} on {_points(attacked)}.",
    ]


def _points(gain: dict[str, float]) -> str:
    """A gain in words, with its 95% interval."""
    points = 100 * gain["difference"]
    low, high = sorted((100 * abs(gain["low"]), 100 * abs(gain["high"])))
    words = f"{abs(points):.0f} {'more' if points > 0 else 'fewer'}"
    if not _differs(gain):
        return f"{words}, which may be chance"
    return f"{words} (95% sure: {low:.0f} to {high:.0f})"


def _describe_effect(comparison: dict[str, Any]) -> list[Section]:
    rows = comparison["rows"]
    classes = comparison.get("classes", [])
    pool = "of every class" if comparison["per_class"] else "of all samples together"
    summary = (
        f"Model {comparison['model']}; {comparison['method']} keeps {100 * comparison['fraction']:.3g}% {pool}. The "
        "models on the coreset and on as many random samples were trained "
        f"for the same {comparison['updates']} updates."
    )
    bullets = describe_gains(rows, comparison.get("against", {}))
    facts = [[row[name] for row in classes] for name in ("class", "before", "after")]
    bullets += [] if comparison["per_class"] else describe_drift(*facts)
    emptied = [row["class"] for row in classes if row["before"] and not row["after"]]
    if emptied:
        bullets.append(f"The coreset holds no sample of {len(emptied)} classes: {', '.join(emptied[:MAX_NAMED])}.")
    effect = Section(
        "Effect of the coreset",
        [summary, ONE_SEED_NOTE],
        bullets=bullets,
        figures=[_figure(rows)],
        tables=[_table(rows)],
        brief=True,
    )
    return [effect, Section("Terms and classes", [TERMS_NOTE], tables=[count_classes(*facts)] if classes else [])]


ONE_SEED_NOTE = (
    "Each model was trained with one seed: the intervals below are of the test images alone. `compare` repeats a "
    "comparison over seeds."
)
TERMS_NOTE = (
    "A coreset is the part of the training samples that is kept. EasyCore keeps those of low AIGN (average input "
    "gradient norm), which measures how strongly a model's loss reacts to small changes of an image, averaged over "
    "training. Accuracy at eps 1/255 is the accuracy when an attacker may change every pixel value, from 0 to 255, by "
    "up to 1; clean accuracy is without an attack."
)
MAX_NAMED = 20  # emptied classes that are named


def describe_gains(rows: Sequence[dict[str, Any]], against: dict[str, list[dict[str, float]]]) -> list[str]:
    """Sentences on the gains of the coreset's model over every other model, on the same test images."""
    sentences = list[str]()
    for other in rows[1:]:
        name = TRAINED_ON[other["trained_on"]]
        if other["objective"] != rows[0]["objective"]:
            sentences.append(
                f"The model of {name} was trained by {other['objective']}, so this does not compare the samples alone."
            )
        elif gains := against.get(other["trained_on"]):
            clean, *attacked = map(_format_gain, gains)
            differences = [text for text, gain in zip(attacked, gains[1:], strict=True) if _differs(gain)]
            undetected = [f"eps {format_eps(gain['eps'])}" for gain in gains[1:] if not _differs(gain)]
            remainder = [f"no detectable difference at {', '.join(undetected)}"] if undetected else []
            sentences.append(f"Against {name}: {'; '.join([clean, *differences, *remainder])}.")
    return sentences


def _format_gain(gain: dict[str, float]) -> str:
    """A gain with its interval, in points."""
    where = f"at eps {format_eps(gain['eps'])}" if gain["eps"] else "clean"
    low = 100 * gain["low"]
    high = 100 * gain["high"]
    caveat = "" if gain["eps"] else _caveat(gain)
    return f"{100 * gain['difference']:+.1f} points {where} ({low:.1f} to {high:.1f}{caveat})"


def _differs(gain: dict[str, float]) -> bool:
    """Whether the interval excludes 0, and the exact test (McNemar's) agrees."""
    return not gain["low"] <= 0 <= gain["high"] and gain.get("p", 0.0) < 0.05


def _caveat(gain: dict[str, float]) -> str:
    """The text after the interval of a difference that may be chance; empty for others."""
    if _differs(gain):
        return ""
    at_the_edge = "" if gain["low"] <= 0 <= gain["high"] else f"; p = {gain['p']:.2f} by McNemar's exact test"
    return f"{at_the_edge}, no detectable difference"


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    traces = [
        accuracy_trace(NAMES[row["trained_on"]], number, [row["clean"], *row["worst"]])
        for number, row in enumerate(rows)
    ]
    radii = [e["eps"] for row in rows for e in row["worst"]]
    return Figure("accuracy under the worst attack over eps, with 95% intervals", traces, eps_layout(radii))


def _table(rows: Sequence[dict[str, Any]]) -> DataTable:
    eps = [f"eps {format_eps(e['eps'])}" for e in rows[0]["worst"]]
    table_rows: list[list[Any]] = []
    for row in rows:
        accuracies = [row["clean"]["accuracy"], *(e["accuracy"] for e in row["worst"])]
        percentages = [round(100 * value, 1) for value in accuracies]
        table_rows.append([NAMES[row["trained_on"]], row["objective"], *percentages, len(row["warnings"])])
    return DataTable(
        "accuracy in % under the worst attack", ["trained on", "objective", "clean", *eps, "warnings"], table_rows
    )
