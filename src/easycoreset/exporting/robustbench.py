"""Export of an evaluation as RobustBench's model information."""

import json
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.errors import UsageError
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.records import read_summary

CORRUPTED = ("cifar10-c", "cifar100-c")


def write_model_information(options: ExportOptions) -> None:
    """Write RobustBench's model information from a folder that `evaluate` wrote.

    Raises:
        UsageError: the folder has neither an evaluation by AutoAttack at one eps nor one on CIFAR-10-C.
    """
    text = json.dumps(build_model_information(options.source), indent=1) + "\n"
    write_new(options.out, lambda path: path.write_text(text))


def build_model_information(folder: Path) -> dict[str, Any]:
    """RobustBench's model information: accuracies in percent as strings; null for fields that only the authors know.

    The threat model is that of AutoAttack in linf or l2, or `corruptions` where the evaluation has all of CIFAR-10-C
    or CIFAR-100-C and no AutoAttack.

    Raises:
        UsageError: the folder has neither.
    """
    summary = read_summary(folder / "evaluation.json")
    lines = [line for line in summary["attacked"] if line["attack"].split(":")[0] == "autoattack"]
    corrupted = next((c for name, c in summary.get("corruptions", {}).items() if name in CORRUPTED), None)
    if not lines and corrupted is not None:
        threat = {"threat_model": "corruptions", "eps": None}
        return _describe(summary, threat, {"corruptions_acc": corrupted["accuracy"]}, summary["corruptions"]["samples"])
    if len(lines) != 1 or lines[0]["attack"] != "autoattack":
        attacks = ", ".join(f"{line['attack']} at {format_eps(line['eps'])}" for line in lines) or "none"
        raise UsageError(
            f"{folder}: robustbench needs an evaluation by the standard autoattack at one eps; it holds {attacks}"
        )
    (line,) = lines
    threat = {"threat_model": "Linf" if line["norm"] == "linf" else "L2", "eps": format_eps(line["eps"])}
    return _describe(summary, threat, {"autoattack_acc": line["accuracy"]}, line["samples"])


def _describe(
    summary: dict[str, Any], threat: dict[str, Any], measured: dict[str, float], samples: int
) -> dict[str, Any]:
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
        **threat,
        "clean_acc": f"{100 * summary['clean']['accuracy']:.2f}",
        "reported": None,
        **{name: f"{100 * accuracy:.2f}" for name, accuracy in measured.items()},
        "unreliable": bool(warnings),
        "footnote": "; ".join([f"measured on {samples} samples of {summary['split']}", *warnings]),
    }
