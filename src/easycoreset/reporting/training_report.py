"""The report of a training run and of an evaluation, and how to reproduce them."""

import json
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.records import read_history, read_record
from easycoreset.reporting.page import DataTable, Figure, Section, axes_layout, eps_layout, error_bars, line_trace


def describe_training(folder: Path) -> list[Section]:
    """Loss over epochs."""
    epochs = read_history(folder / "history.jsonl")
    numbers = [entry["epoch"] for entry in epochs]
    data = [line_trace("training loss", 0, numbers, [entry["loss"] for entry in epochs])]
    summary = read_record(folder / "run.json").get("summary", {}) if (folder / "run.json").exists() else {}
    text = ", ".join(f"{name} {value}" for name, value in summary.items() if isinstance(value, int | float | str))
    return [
        Section(
            "Training",
            [text] if text else [],
            figures=[Figure("training loss by epoch", data, axes_layout("epoch", "loss"))],
        )
    ]


def describe_evaluation(folder: Path) -> list[Section]:
    """Accuracy over eps with intervals, and all checks."""
    summary = read_record(folder / "evaluation.json").get("summary")
    if summary is None:
        return [Section("Evaluation", ["The evaluation is not finished yet."])]
    clean = summary["clean"]
    data = []
    for number, attack in enumerate(dict.fromkeys(entry["attack"] for entry in summary["attacked"])):
        entries = [clean, *sorted((e for e in summary["attacked"] if e["attack"] == attack), key=lambda e: e["eps"])]
        bars = error_bars([100 * (e["high"] - e["accuracy"]) for e in entries])
        bars |= {"symmetric": False, "arrayminus": [100 * (e["accuracy"] - e["low"]) for e in entries]}
        data.append(
            line_trace(
                attack, number, [e["eps"] for e in entries], [100 * e["accuracy"] for e in entries], error_y=bars
            )
        )
    figure = Figure(
        "accuracy under attack over eps, with 95% Wilson intervals",
        data,
        eps_layout(e["eps"] for e in summary["attacked"]),
    )
    shares = ("accuracy", "low", "high")
    rows = [
        [e["attack"], e["norm"], format_eps(e["eps"]), *(round(100 * e[k], 2) for k in shares), e["samples"]]
        for e in (clean, *summary["attacked"], *summary["worst"])
    ]
    accuracies = DataTable("accuracies in %", ["attack", "norm", "eps", "accuracy", "low", "high", "samples"], rows)
    check_rows = [
        [c["name"], c["figure"], "passed" if c["passed"] else "FAILED", "" if c["passed"] else c["message"]]
        for c in summary["checks"]
    ]
    checks = DataTable("checks", ["check", "figure", "result", "meaning"], check_rows)
    verdict = f"Clean accuracy {100 * clean['accuracy']:.1f}%; under the worst attack " + ", ".join(
        f"{100 * e['accuracy']:.1f}% at eps {format_eps(e['eps'])}" for e in summary["worst"]
    )
    warnings = summary["warnings"] or ["Every check passed."]
    return [Section("Evaluation", [verdict + "."], bullets=warnings, figures=[figure], tables=[accuracies, checks])]


def describe_reproduction(folder: Path) -> list[Section]:
    """How to reproduce it: command, options, versions, fingerprint."""
    blocks: list[str] = []
    for name in ("plan.json", "run.json", "evaluation.json"):
        if not (folder / name).exists():
            continue
        record = read_record(folder / name)
        command = record.get("command_line") or f"easycoreset {record.get('command', '')}"
        facts: dict[str, Any] = {
            key: record[key] for key in ("options", "versions", "started", "finished") if key in record
        }
        blocks.append(f"{command}\n\n{json.dumps(facts, indent=1)}")
    return [Section("How to reproduce it", code="\n\n".join(blocks), collapsed=True)] if blocks else []
