"""The card of a trained model, or of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Document, Section, list_facts
from easycoreset.documents.summaries import describe_outcomes
from easycoreset.errors import UsageError
from easycoreset.models.card import ModelCard, read_card
from easycoreset.paths import sha256_of_file
from easycoreset.records import read_record

Json = Mapping[str, Any]
RECIPE = ("batch_size", "lr", "momentum", "weight_decay", "schedule", "augment", "precision", "ema", "val_fraction")


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a trained model or an evaluation."""
    return any((folder / name).exists() for name in ("model.json", "evaluation.json"))


def describe_model(folder: Path) -> Document:
    """The card: architecture, training, accuracies with intervals, checks, versions and limits.

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
    unknown = Section("Evaluation", ["The folder holds no finished evaluation: its accuracy is not known."])
    return Document(
        f"Model card: {model or 'a model without a name'}",
        [
            Section("Architecture", tables=[_architecture(card, model)]),
            _training(card, run),
            *(describe_outcomes(summary) if summary else [unknown]),
            describe_commands([run, record]),
            Section("Limits", bullets=_limits(card, summary)),
        ],
    )


def _check_weights(folder: Path, record: Json) -> None:
    """Refuse an evaluation that is of another model than the one in its folder."""
    file = folder / "model.safetensors"
    evaluated = record.get("options", {}).get("weights")
    if file.exists() and evaluated != sha256_of_file(file):
        raise UsageError(f"source: {folder / 'evaluation.json'} is of other weights than {file}")


def _architecture(card: ModelCard | None, model: str | None) -> DataTable:
    if card is None:
        return list_facts({"architecture": model})
    return list_facts(
        {
            "architecture": card.model,
            "input": f"{' x '.join(map(str, card.shape))} (channels, height, width), in [0, 1]",
            "normalisation, mean": card.mean,
            "normalisation, deviation": card.std,
            "classes": f"{len(card.class_names)}: {', '.join(card.class_names)}",
        }
    )


def _training(card: ModelCard | None, run: Json) -> Section:
    if card is None:
        return Section("Training", ["The folder holds only an evaluation, so it is not known how it was trained."])
    summary: Json = run.get("summary", {})
    resolved: Json = run.get("options", {}) or card.provenance.get("options", {})
    given: Json = card.provenance.get("options", {})
    facts = {
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
    return Section("Training", tables=[list_facts(facts)])


def describe_commands(records: Sequence[Json], commands: Sequence[str] = ()) -> Section:
    """How to reproduce it: the command lines of some records, or the given ones, and the versions of the packages."""
    lines = [record["command_line"] for record in records if record.get("command_line")]
    versions = next((record["versions"] for record in records if record.get("versions")), {})
    tables = [list_facts(versions)] if versions else []
    return Section("How to reproduce it", tables=tables, code="\n".join(commands or lines))


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
        "The intervals cover the random choice of images, not the randomness of training: this is one run.",
    ]
