"""The report of `run`: what the coreset bought, then what is wrong with the data, then what is hard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import say_eps
from easycoreset.files import read_json
from easycoreset.reporting.audit import describe_audit
from easycoreset.reporting.page import Figure, Grid, Section, axes, errors, line
from easycoreset.reporting.runs import describe_evaluation
from easycoreset.reporting.samples import describe_scores

NAMES = {"coreset": "coreset", "random": "random, as many", "all": "all samples"}


def describe_whole(folder: Path) -> list[Section]:
    """The sections of a folder that `run` wrote."""
    found = read_json(folder / "comparison.json")
    sections = [_comparison(found)]
    if (folder / "audit" / "audit.parquet").exists():
        sections += describe_audit(folder / "audit")
    sections += describe_scores(folder / "scores", [found["fraction"]])
    checks = describe_evaluation(folder / "evaluation" / "coreset")
    return [*sections, *checks]


def _comparison(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    how = "of every class" if found["per_class"] else "of all samples together"
    said = (
        f"{found['model']}; {found['method']} keeps {100 * found['fraction']:.3g}% {how}. The models on the coreset "
        f"and on as many random samples were trained for the same {found['updates']} updates."
    )
    return Section("What the coreset bought", [said, ONE_SEED], points=tell(rows), figures=[_figure(rows)],
                   tables=[_table(rows)])  # fmt: skip


ONE_SEED = (
    "One seed each: differences of a point or two are noise. `compare` repeats a comparison over seeds, with intervals."
)


def tell(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The differences between the coreset's model and the others, where intervals do not overlap, in sentences."""
    own, points = rows[0], list[str]()
    for other in rows[1:]:
        name = {"random": "as many random samples", "all": "all samples"}[other["trained_on"]]
        if other["objective"] != own["objective"]:
            points.append(f"The model of {name} was trained by {other['objective']}: that is no comparison of samples.")
            continue
        better: list[str] = []
        for mine, theirs, where in (
            (own["clean"], other["clean"], "clean"),
            *((a, b, f"eps {say_eps(a['eps'])}") for a, b in zip(own["worst"], other["worst"], strict=True)),
        ):
            if mine["low"] > theirs["high"] or mine["high"] < theirs["low"]:
                better.append(f"{100 * (mine['accuracy'] - theirs['accuracy']):+.1f} points at {where}")
        points.append(f"Against {name}: {', '.join(better) or 'no difference beyond the 95% intervals'}.")
    return points


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    data: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        lines = [row["clean"], *row["worst"]]
        bars = errors([100 * (e["high"] - e["accuracy"]) for e in lines])
        bars |= {"symmetric": False, "arrayminus": [100 * (e["accuracy"] - e["low"]) for e in lines]}
        data.append(line(NAMES[row["trained_on"]], place, [e["eps"] for e in lines],
                         [100 * e["accuracy"] for e in lines], error_y=bars))  # fmt: skip
    return Figure("accuracy under the worst attack over eps, with 95% intervals", data, axes("eps", "accuracy, %"))


def _table(rows: Sequence[dict[str, Any]]) -> Grid:
    eps = [f"eps {say_eps(e['eps'])}" for e in rows[0]["worst"]]
    lines: list[list[Any]] = []
    for row in rows:
        accuracies = [row["clean"]["accuracy"], *(e["accuracy"] for e in row["worst"])]
        shown = [round(100 * value, 1) for value in accuracies]
        lines.append([NAMES[row["trained_on"]], row["objective"], *shown, len(row["warnings"])])
    return Grid("accuracy in %", ["trained on", "objective", "clean", *eps, "warnings"], lines)
