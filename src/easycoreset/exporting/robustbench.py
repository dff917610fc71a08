"""Export of an evaluation as RobustBench's model information."""

import json
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.errors import UsageError
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.records import read_summary


def write_model_information(options: ExportOptions) -> None:
    """Write RobustBench's model information from a folder that `evaluate` wrote with AutoAttack.

    Raises:
        UsageError: the folder has no evaluation by AutoAttack at one eps in linf or l2.
    """
    text = json.dumps(build_model_information(options.source), indent=1) + "\n"
    write_new(options.out, lambda path: path.write_text(text))


def build_model_information(folder: Path) -> dict[str, Any]:
    """RobustBench's model information: accuracies in percent as strings; null for fields that only the authors know.

    Raises:
        UsageError: the folder has no evaluation by AutoAttack at one eps in linf or l2.
    """
    summary = read_summary(folder / "evaluation.json")
    lines = [line for line in summary["attacked"] if line["attack"].split(":")[0] == "autoattack"]
    if len(lines) != 1 or lines[0]["attack"] != "autoattack":
        attacks = ", ".join(f"{line['attack']} at {format_eps(line['eps'])}" for line in lines) or "none"
        raise UsageError(
            f"{folder}: robustbench needs an evaluation by the standard autoattack at one eps; it holds {attacks}"
        )
    (line,) = lines
    warnings = summary["warnings"]
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": summary["data"].split(":")[0],
        "venue": None,
        "architecture": summary.get("model"),
        "threat_model": "Linf" if line["norm"] == "linf" else "L2",
        "eps": format_eps(line["eps"]),
        "clean_acc": f"{100 * summary['clean']['accuracy']:.2f}",
        "reported": None,
        "autoattack_acc": f"{100 * line['accuracy']:.2f}",
        "unreliable": bool(warnings),
        "footnote": "; ".join([f"measured on {line['samples']} samples of {summary['split']}", *warnings]),
    }
