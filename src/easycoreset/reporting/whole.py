"""The report of `run`: what the coreset bought, then what is wrong with the data, then what is hard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import say_eps
from easycoreset.records import read_record
from easycoreset.reporting.audit import describe_audit
from easycoreset.reporting.page import Figure, Grid, Section, errors, line, over_eps
from easycoreset.reporting.runs import describe_evaluation
from easycoreset.reporting.samples import describe_scores

NAMES = {"coreset": "coreset", "random": "random, as many", "all": "all samples"}


def describe_whole(folder: Path) -> list[Section]:
    """The sections of a folder that `run` wrote."""
    found = read_record(folder / "comparison.json")
    sections = [_comparison(found)]
    if (folder / "audit" / "audit.parquet").exists():
        sections += describe_audit(folder / "audit")
    sections += describe_scores(folder / "scores", [found["fraction"]])
    checks = describe_evaluation(folder / "evaluation" / "coreset")
    return [*sections, *checks]


def _comparison(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    classes = found.get("classes", [])
    how = "of every class" if found["per_class"] else "of all samples together"
    said = (
        f"{found['model']}; {found['method']} keeps {100 * found['fraction']:.3g}% {how}. The models on the coreset "
        f"and on as many random samples were trained for the same {found['updates']} updates."
    )
    points = tell(rows, found.get("against", {}))
    emptied = [row["class"] for row in classes if row["before"] and not row["after"]]
    if emptied:
        points.append(f"The coreset holds no sample of {len(emptied)} classes: {', '.join(emptied[:SHOWN])}.")
    counts = Grid("samples of each class", ["class", "before", "kept"], [list(row.values()) for row in classes])
    return Section(
        "What the coreset bought",
        [said, ONE_SEED, WORDS],
        points=points,
        figures=[_figure(rows)],
        tables=[_table(rows), *([counts] if classes else [])],
    )


ONE_SEED = (
    "One seed each: differences of a point or two are noise. `compare` repeats a comparison over seeds, with intervals."
)
WORDS = (
    "A coreset is the part of the training samples that is kept. AIGN, the hardness by which EasyCore keeps the easy "
    "ones, is how strongly a model's loss reacts to small changes of a picture, averaged over training. Accuracy at "
    "eps 1/255 is what is left when an attacker may change every pixel's value by one of 255; clean is without an "
    "attack."
)
SHOWN = 20  # classes that are named


def tell(rows: Sequence[dict[str, Any]], against: dict[str, list[dict[str, float]]]) -> list[str]:
    """What the coreset's model gains over each other on the same test images, in sentences."""
    points = list[str]()
    for other in rows[1:]:
        name = {"random": "as many random samples", "all": "all samples"}[other["trained_on"]]
        if other["objective"] != rows[0]["objective"]:
            said = f"was trained by {other['objective']}: that is no comparison of samples"
            points.append(f"The model of {name} {said}.")
        elif gains := against.get(other["trained_on"]):
            clean, *attacked = map(_gain, gains)
            told = [text for text, line in zip(attacked, gains[1:], strict=True) if _differs(line)]
            quiet = [f"eps {say_eps(line['eps'])}" for line in gains[1:] if not _differs(line)]
            more = [f"no difference that can be told at {', '.join(quiet)}"] if quiet else []
            points.append(f"Against {name}: {'; '.join([clean, *told, *more])}.")
    return points


def _gain(line: dict[str, float]) -> str:
    """A difference with its interval, in points."""
    where = f"at eps {say_eps(line['eps'])}" if line["eps"] else "clean"
    low = 100 * line["low"]
    high = 100 * line["high"]
    told = "" if _differs(line) or line["eps"] else ", which is no difference that can be told"
    return f"{100 * line['difference']:+.1f} points {where} ({low:.1f} to {high:.1f}{told})"


def _differs(line: dict[str, float]) -> bool:
    """Whether the interval is clear of 0."""
    return not line["low"] <= 0 <= line["high"]


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    data: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        lines = [row["clean"], *row["worst"]]
        bars = errors([100 * (e["high"] - e["accuracy"]) for e in lines])
        bars |= {"symmetric": False, "arrayminus": [100 * (e["accuracy"] - e["low"]) for e in lines]}
        data.append(
            line(
                NAMES[row["trained_on"]],
                place,
                [e["eps"] for e in lines],
                [100 * e["accuracy"] for e in lines],
                error_y=bars,
            )
        )
    radii = [e["eps"] for row in rows for e in row["worst"]]
    return Figure("accuracy under the worst attack over eps, with 95% intervals", data, over_eps(radii))


def _table(rows: Sequence[dict[str, Any]]) -> Grid:
    eps = [f"eps {say_eps(e['eps'])}" for e in rows[0]["worst"]]
    lines: list[list[Any]] = []
    for row in rows:
        accuracies = [row["clean"]["accuracy"], *(e["accuracy"] for e in row["worst"])]
        shown = [round(100 * value, 1) for value in accuracies]
        lines.append([NAMES[row["trained_on"]], row["objective"], *shown, len(row["warnings"])])
    return Grid("accuracy in %", ["trained on", "objective", "clean", *eps, "warnings"], lines)
