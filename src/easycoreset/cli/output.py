"""Results on standard output: text, or one JSON object."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from easycoreset.console import escape_control, format_eps

if TYPE_CHECKING:
    import pyarrow as pa

    from easycoreset.tables import Coreset, Scores


class Output:
    """The output format of results."""

    as_json: bool = False


def printed_as_json(value: Any) -> bool:
    """Print a value as JSON if that is the output format; return whether it is."""
    if Output.as_json:
        print(json.dumps(value, indent=1))
    return Output.as_json


def print_line(text: object) -> None:
    """Print a line of text, with the control characters of class and file names escaped."""
    print(escape_control(text))


def add_row(table: Table, *cells: str) -> None:
    """Add a row, with the control characters of its cells escaped."""
    table.add_row(*(escape_control(cell).replace("\n", "\\n") for cell in cells))


def print_table(table: Table) -> None:
    """Print a table, in full width where standard output is no terminal."""
    Console(width=None if Console().is_terminal else 140, highlight=False, markup=False).print(table)


def show_run(record: dict[str, Any], file: Path, scores: "Scores | None" = None) -> None:
    """Show the results of `score` and `train`."""
    if printed_as_json({**record, "file": str(file)}):
        return
    summary = record["summary"]
    description = f"{summary['model']} on {summary['samples']} samples of {summary['data']}"
    if "checkpoints" in summary:
        print_line(f"{description}, by {len(summary['checkpoints'])} checkpoints")
    else:
        loss = "no finite loss" if summary["loss"] is None else f"loss {summary['loss']:.4f}"
        seconds = f"{summary['seconds']:.0f} s of training"
        print_line(f"{description}, {summary['objective']}: {summary['updates']} updates, {loss}, {seconds}")
    if scores is not None:
        table = Table("hardness", "easiest", "median", "hardest", "not defined")
        for name, values in scores.columns.items():
            defined = values[np.isfinite(values)]
            spread = (
                [f"{value:.4g}" for value in (defined.min(), np.median(defined), defined.max())]
                if len(defined)
                else ["-"] * 3
            )
            add_row(table, name, *spread, str(len(values) - len(defined)))
        print_table(table)
    print_line(file)


def show_selection(record: dict[str, Any], coreset: "Coreset", file: Path) -> None:
    """Show the results of `select`."""
    if printed_as_json({**record, "file": str(file), "kept": len(coreset)}):
        return
    before, after = coreset.class_counts()
    names = coreset.provenance.get("class_names", [])
    table = Table("class", "before", "kept", "share")
    for k, (n, kept) in enumerate(zip(before, after, strict=True)):
        add_row(table, names[k] if k < len(names) else str(k), str(n), str(kept), f"{kept / n:.1%}" if n else "-")
    print_table(table)
    print_line(f"{coreset.provenance['method']} keeps {len(coreset)} of {len(coreset.keep)} samples")
    print_line(file)


def show_evaluation(record: dict[str, Any], folder: Path) -> None:
    """Show the results of `evaluate`."""
    if printed_as_json({**record, "folder": str(folder)}):
        return
    summary = record["summary"]
    table = Table(
        "attack", "norm", "eps", "accuracy", "95% interval", title=f"{summary['samples']} samples of {summary['data']}"
    )
    several_attacks = len({line["attack"] for line in summary["attacked"]}) > 1
    for line in (summary["clean"], *summary["attacked"], *(summary["worst"] if several_attacks else ())):
        interval = f"{100 * line['low']:.1f} to {100 * line['high']:.1f}"
        add_row(table, line["attack"], line["norm"], format_eps(line["eps"]), f"{100 * line['accuracy']:.2f}", interval)
    print_table(table)
    for line in summary.get("margins", ()):
        median = "not known" if (m := line["median_upper_bound"]) is None else f"at most {m:.4g}"
        print_line(
            f"{line['attack']}: median {line['norm']} distance {median}, found for {line['found']:.1%} of "
            f"{line['samples']} samples"
        )
    passed = sum(check["passed"] for check in summary["checks"])
    print_line(f"{passed} of {len(summary['checks'])} checks passed")
    for warning in summary["warnings"]:
        print_line(f"warning: {warning}")
    print_line(folder / "evaluation.json")


def show_audit(record: dict[str, Any], table: "pa.Table", folder: Path) -> None:
    """Show the results of `audit`: the most suspect samples, and counts."""
    if printed_as_json({**record, "folder": str(folder)}):
        return
    summary = record["summary"]
    flags_known = summary["likely_mislabelled"] is not None
    suspects = (table.filter(table["likely_mislabelled"]) if flags_known else table).sort_by(
        [("suspicion", "descending")]
    )
    suspect_table = Table("index", "sample", "label", "predicted", summary["suspect_by"], title="most suspect")
    for line in suspects.slice(0, 10).to_pylist():
        add_row(
            suspect_table,
            str(line["index"]),
            line["sample_id"],
            line["label_name"],
            line["pred_name"] or "-",
            f"{line[summary['suspect_by']]:.3g}",
        )
    print_table(suspect_table)
    counts = (
        f"{summary['likely_mislabelled'] if flags_known else 'not known how many'} of {summary['samples']} samples are "
        "likely mislabelled",
        f"{summary['duplicates']} are exact duplicates, {summary['duplicates_with_another_label']} under another label",
        f"{summary['also_in_test']} are also in the test split",
        f"{len(summary['unreadable'])} cannot be read",
    )
    print_line(", ".join(counts))
    for name, precisions in summary.get("noise", {}).get("columns", {}).items():
        print_line(f"precision at {precisions[1]['k']} by {name}: {precisions[1]['precision']:.3f}")
    print_line(folder / "report.html")


def show_analysis(analysis: dict[str, Any], folder: Path) -> None:
    """Show the results of `analyze`, one row per hardness, attacked model and split."""
    if printed_as_json({**analysis, "folder": str(folder)}):
        return
    radii = sorted({row["eps"] for row in analysis["vulnerability"]})
    shown_eps = radii[len(radii) // 2]
    table = Table(
        "hardness",
        "attacked",
        "split",
        "margin: Spearman",
        "95% interval",
        "robust, easiest",
        "hardest",
        title=f"hardness against margin; accuracy of the easiest and hardest part at eps {format_eps(shown_eps)}",
    )
    for margin in analysis["margins"]:
        key = margin | {"eps": shown_eps}
        parts = next(
            row["bins"]
            for row in analysis["vulnerability"]
            if all(row[k] == key[k] for k in ("hardness", "attacked", "split", "eps"))
        )
        low, high = margin["interval"] or (None, None)
        interval = "-" if low is None else f"{low:.2f} to {high:.2f}"
        correlation = "-" if margin["spearman"] is None else f"{margin['spearman']:.3f}"
        accuracies = [f"{100 * parts[i]['robust']:.1f}" for i in (0, -1)]  # of the easiest and the hardest part
        add_row(table, margin["hardness"], margin["attacked"], margin["split"], correlation, interval, *accuracies)
    print_table(table)
    print_line(folder / "report.html")


def show_run_comparison(comparison: dict[str, Any], folder: Path) -> None:
    """Show the comparison of `run`."""
    if printed_as_json({**comparison, "folder": str(folder)}):
        return
    rows = comparison["rows"]
    table = Table(
        "trained on",
        "objective",
        "clean",
        *(f"eps {format_eps(e['eps'])}" for e in rows[0]["worst"]),
        title="accuracy in % under the worst attack",
    )
    for row in rows:
        accuracies = [row["clean"]["accuracy"], *(e["accuracy"] for e in row["worst"])]
        add_row(table, row["trained_on"], row["objective"], *(f"{100 * value:.1f}" for value in accuracies))
    print_table(table)
    print_line(folder / "report.html")


def show_prediction(record: dict[str, Any], file: Path) -> None:
    """Show the results of `predict`."""
    if printed_as_json({**record, "file": str(file)}):
        return
    table = Table("class", "images")
    for name, count in record["summary"]["counts"].items():
        add_row(table, name, str(count))
    print_table(table)
    print_line(file)


def show_report(file: Path) -> None:
    """Show the path of the written file."""
    if not printed_as_json({"file": str(file)}):
        print_line(file)


def show_doctor(diagnosis: dict[str, Any]) -> None:
    """Show the results of `doctor`."""
    if printed_as_json(diagnosis):
        return
    table = Table("part", "what", "found")
    for part, facts in diagnosis.items():
        for row, (name, value) in enumerate(_flatten_facts(facts)):
            add_row(table, "" if row else part, name, value)
    print_table(table)


def _flatten_facts(facts: Any, name: str = "") -> list[tuple[str, str]]:
    """Name and value of every fact, including nested ones, as text."""
    if isinstance(facts, dict):
        return [pair for key, value in facts.items() for pair in _flatten_facts(value, f"{name} {key}".strip())]
    if isinstance(facts, list):
        facts = ", ".join(map(str, facts)) or None
    words = {True: "yes", False: "no", None: "none"}
    return [(name, words[facts] if facts is None or isinstance(facts, bool) else str(facts))]
