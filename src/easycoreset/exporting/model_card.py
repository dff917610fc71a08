"""The card of a trained model, or of an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.errors import UsageError
from easycoreset.exporting.markdown import (
    bullet_list,
    card_page,
    code_block,
    escape_cell,
    key_value_table,
    markdown_table,
)
from easycoreset.models.card import ModelCard, read_card
from easycoreset.paths import sha256_of_file
from easycoreset.records import read_record

Json = Mapping[str, Any]
RECIPE = ("batch_size", "lr", "momentum", "weight_decay", "schedule", "augment", "precision", "ema", "val_fraction")


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a trained model or an evaluation."""
    return any((folder / name).exists() for name in ("model.json", "evaluation.json"))


def describe_model(folder: Path) -> str:
    """The card's text: architecture, training, accuracies with intervals, checks, versions and limits.

    Raises:
        UsageError: a file cannot be read, or the evaluation is of other weights than the folder's.
    """
    card = read_card(folder) if (folder / "model.json").exists() else None
    run = read_record(folder / "run.json") if card is not None and (folder / "run.json").exists() else {}
    record = read_record(folder / "evaluation.json") if (folder / "evaluation.json").exists() else {}
    summary: Json = record.get("summary", {})
    if card is not None and summary:
        _check_weights(folder, record)
    model = card.model if card is not None else summary.get("model")
    return card_page(
        f"Model card: {model or 'a model without a name'}",
        {
            "Architecture": _architecture(card, model),
            "Training": _training(card, run),
            "Accuracy": _accuracy(summary),
            "Checks and warnings": _checks(summary),
            "How to reproduce it": _reproduce(run, record),
            "Limits": bullet_list(_limits(card, summary)),
        },
    )


def _check_weights(folder: Path, record: Json) -> None:
    """Refuse an evaluation that is of another model than the one in its folder."""
    file = folder / "model.safetensors"
    evaluated = record.get("options", {}).get("weights")
    if file.exists() and evaluated != sha256_of_file(file):
        raise UsageError(f"source: {folder / 'evaluation.json'} is of other weights than {file}")


def _architecture(card: ModelCard | None, model: str | None) -> str:
    if card is None:
        return key_value_table({"architecture": model})
    return key_value_table(
        {
            "architecture": card.model,
            "input": f"{' x '.join(map(str, card.shape))} (channels, height, width), in [0, 1]",
            "normalisation, mean": card.mean,
            "normalisation, deviation": card.std,
            "classes": f"{len(card.class_names)}: {', '.join(card.class_names)}",
        }
    )


def _training(card: ModelCard | None, run: Json) -> str:
    if card is None:
        return "The folder holds only an evaluation, so it is not known how the model was trained.\n"
    summary: Json = run.get("summary", {})
    resolved: Json = run.get("options", {}) or card.provenance.get("options", {})
    given: Json = card.provenance.get("options", {})
    return key_value_table(
        {
            "data": summary.get("data", resolved.get("data")),
            "fingerprint": card.provenance.get("fingerprint"),
            "samples": summary.get("samples"),
            "coreset": (resolved["coreset"] or "none: all samples") if "coreset" in resolved else None,
            "coreset file": given.get("coreset"),
            "objective": summary.get("objective", resolved.get("objective")),
            "eps": None if card.eps is None else format_eps(card.eps),
            "epochs": summary.get("epochs", resolved.get("epochs")),
            "updates": summary.get("updates", resolved.get("updates")),
            "seed": resolved.get("seed"),
            **{name.replace("_", " "): resolved.get(name) for name in RECIPE},
            "last training loss": summary.get("loss"),
        }
    )


def _accuracy(summary: Json) -> str:
    if not summary:
        return "The folder holds no finished evaluation: its accuracy is not known.\n"
    lines = [summary["clean"], *summary["attacked"], *(summary["worst"] if len(summary["attacked"]) > 1 else ())]
    rows = [
        [
            line["attack"],
            line["norm"] or None,
            format_eps(line["eps"]),
            *[f"{100 * line[key]:.2f}" for key in ("accuracy", "low", "high")],
            line["samples"],
        ]
        for line in lines
    ]
    split, data = escape_cell(summary["split"]), escape_cell(summary["data"])
    text = f"On split {split} of {data}, in %, with 95% Wilson intervals.\n\n"
    text += markdown_table(["attack", "norm", "eps", "accuracy", "low", "high", "samples"], rows)
    for line in summary.get("margins", ()):
        median = line["median_upper_bound"]
        text += (
            f"\n{escape_cell(line['attack'])}: the median {line['norm']} distance to the boundary is "
            + ("not known" if median is None else f"at most {median:.4g}")
            + f"; a distance was found for {line['found']:.1%} of {line['samples']} samples.\n"
        )
    return text


def _checks(summary: Json) -> str:
    if not summary:
        return ""
    warnings = bullet_list(summary["warnings"]) if summary["warnings"] else "Every check passed.\n"
    rows = [[check["name"], check["figure"], "passed" if check["passed"] else "FAILED"] for check in summary["checks"]]
    return warnings + "\n" + markdown_table(["check", "figure", "result"], rows)


def _reproduce(run: Json, record: Json) -> str:
    lines = [source["command_line"] for source in (run, record) if source.get("command_line")]
    package_versions: Json = run.get("versions") or record.get("versions") or {}
    return (code_block(lines) + "\n" if lines else "") + (key_value_table(package_versions) if package_versions else "")


def _limits(card: ModelCard | None, summary: Json) -> list[str]:
    if not summary:
        return ["The model was not evaluated: evaluate it before using it."]
    limits = ["Accuracy under attack is an upper bound: a stronger attack may lower it."]
    has_autoattack = any(line["attack"].startswith("autoattack") for line in summary["attacked"])
    if not has_autoattack:
        limits.append(
            "The model was not attacked with AutoAttack, which is usually stronger than the attacks used here."
        )
    radii = sorted({line["eps"] for line in summary["attacked"]})
    if radii:
        norms = ", ".join(sorted({line["norm"] for line in summary["attacked"]}))
        limits.append(
            f"Robustness was measured only at eps {', '.join(map(format_eps, radii))} in {norms}: not "
            "for other norms, corruptions or data of another source."
        )
    if card is not None and card.eps is None:
        limits.append("The model was not trained adversarially at a known eps.")
    return [
        *limits,
        "The intervals cover the random choice of test images, not the randomness of training: this is one run.",
    ]
