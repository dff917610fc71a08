"""The report of a training run and of an evaluation, and how to do them again."""

import json
from pathlib import Path
from typing import Any

from easycoreset.console import say_eps
from easycoreset.records import read_history, read_record
from easycoreset.reporting.page import Figure, Grid, Section, axes, errors, line, over_eps


def describe_training(folder: Path) -> list[Section]:
    """Loss over epochs."""
    lines = read_history(folder / "history.jsonl")
    x = [entry["epoch"] for entry in lines]
    data = [line("training loss", 0, x, [entry["loss"] for entry in lines])]
    summary = read_record(folder / "run.json").get("summary", {}) if (folder / "run.json").exists() else {}
    said = ", ".join(f"{name} {value}" for name, value in summary.items() if isinstance(value, int | float | str))
    return [
        Section(
            "Training", [said] if said else [], figures=[Figure("training loss by epoch", data, axes("epoch", "loss"))]
        )
    ]


def describe_evaluation(folder: Path) -> list[Section]:
    """Accuracy over eps with intervals, and every check."""
    summary = read_record(folder / "evaluation.json").get("summary")
    if summary is None:
        return [Section("Evaluation", ["It is not finished yet."])]
    clean = summary["clean"]
    data = []
    for place, attack in enumerate(dict.fromkeys(entry["attack"] for entry in summary["attacked"])):
        own = [clean, *sorted((e for e in summary["attacked"] if e["attack"] == attack), key=lambda e: e["eps"])]
        bars = errors([100 * (e["high"] - e["accuracy"]) for e in own])
        bars |= {"symmetric": False, "arrayminus": [100 * (e["accuracy"] - e["low"]) for e in own]}
        data.append(line(attack, place, [e["eps"] for e in own], [100 * e["accuracy"] for e in own], error_y=bars))
    figure = Figure(
        "accuracy under attack over eps, with 95% Wilson intervals",
        data,
        over_eps(e["eps"] for e in summary["attacked"]),
    )
    shares = ("accuracy", "low", "high")
    rows = [
        [e["attack"], e["norm"], say_eps(e["eps"]), *(round(100 * e[k], 2) for k in shares), e["samples"]]
        for e in (clean, *summary["attacked"], *summary["worst"])
    ]
    accuracies = Grid("accuracies in %", ["attack", "norm", "eps", "accuracy", "low", "high", "samples"], rows)
    checked = [
        [c["name"], c["figure"], "passed" if c["passed"] else "FAILED", "" if c["passed"] else c["message"]]
        for c in summary["checks"]
    ]
    checks = Grid("checks", ["check", "figure", "result", "meaning"], checked)
    verdict = f"Clean accuracy {100 * clean['accuracy']:.1f}%; under the worst attack " + ", ".join(
        f"{100 * e['accuracy']:.1f}% at eps {say_eps(e['eps'])}" for e in summary["worst"]
    )
    warnings = summary["warnings"] or ["Every check passed."]
    return [Section("Evaluation", [verdict + "."], points=warnings, figures=[figure], tables=[accuracies, checks])]


def describe_record(folder: Path) -> list[Section]:
    """How to do it again: command, options, versions, fingerprint."""
    found: list[str] = []
    for name in ("run.json", "evaluation.json"):
        if not (folder / name).exists():
            continue
        record = read_record(folder / name)
        command = record.get("command_line") or f"easycoreset {record.get('command', '')}"
        kept: dict[str, Any] = {
            key: record[key] for key in ("options", "experiment", "versions", "started", "finished") if key in record
        }
        found.append(f"{command}\n\n{json.dumps(kept, indent=1)}")
    return [Section("How to reproduce it", code="\n\n".join(found), folded=True)] if found else []
