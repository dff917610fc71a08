"""The data card of a coreset."""

import shlex
from typing import Any

import numpy as np

from easycoreset.documents import DataTable, Document, Section, list_facts
from easycoreset.documents.summaries import count_classes, summarise_hardness
from easycoreset.errors import quote
from easycoreset.exporting.model_card import describe_commands
from easycoreset.exporting.source_tables import SourceTables, read_coreset_record, read_record_beside
from easycoreset.tables import Coreset, Scores
from easycoreset.tables.coreset import find_lost_classes

REPRODUCED_OPTIONS = ("scores", "method", "by", "fraction", "per_class", "val_fraction", "exclude", "seed")


def describe_coreset(tables: SourceTables) -> Document:
    """The card: data, fingerprint, method, class counts, hardness of kept and dropped samples, commands, limits.

    Raises:
        UsageError: the source holds no coreset.
    """
    coreset = tables.require_coreset("card")
    before, after = (counts.tolist() for counts in coreset.class_counts())
    data = coreset.provenance.get("data", "a data set without a name")
    return Document(
        f"Data card: {len(coreset)} of {len(coreset.keep)} samples of {data}",
        [
            Section("Summary", tables=[_summary(coreset, tables.scores)]),
            Section("Classes", tables=[count_classes(tables.class_names, before, after)]),
            _hardness(coreset, tables.scores),
            _reproduce(tables),
            Section("Limits", bullets=_limits(coreset, tables)),
        ],
    )


def _summary(coreset: Coreset, scores: Scores | None) -> DataTable:
    provenance = coreset.provenance
    weights = coreset.weight[coreset.keep]
    is_uniform = bool(np.all(weights == weights[0]))
    scoring = scores.provenance if scores is not None else {}
    return list_facts(
        {
            **{name: provenance.get(name) for name in ("data", "split", "fingerprint", "method", "fraction")},
            "kept": f"{len(coreset)} of {len(coreset.keep)} samples",
            "fraction held out for validation": provenance.get("val_fraction"),
            "samples excluded from selection": provenance.get("excluded"),
            "seed": provenance.get("seed"),
            "weights": f"all {weights[0]:.4g}" if is_uniform else f"{weights.min():.4g} to {weights.max():.4g}, mean 1",
            **{f"scoring {name}": scoring.get(name) for name in ("model", "objective", "mode")},
            "scored epochs": None if scores is None else int(scores.n_obs.max()),
        }
    )


def _hardness(coreset: Coreset, scores: Scores | None) -> Section:
    title = "Hardness of kept and dropped samples"
    if scores is None:
        return Section(title, ["The scores that it was selected from were not found, so the hardness is not known."])
    rows: list[list[Any]] = []
    parts = {
        part: summarise_hardness({name: values[mask] for name, values in scores.columns.items()})
        for part, mask in (("kept", coreset.keep), ("dropped", ~coreset.keep))
    }
    for lines in zip(*(table.rows for table in parts.values()), strict=True):
        rows += [[line[0], part, *line[1:]] for part, line in zip(parts, lines, strict=True)]
    names = ["hardness", "samples", *parts["kept"].columns[1:]]
    return Section(title, ["Higher is harder in every column."], tables=[DataTable("hardness", names, rows)])


def _reproduce(tables: SourceTables) -> Section:
    record = read_coreset_record(tables)
    run = read_record_beside(tables.scores_file, "run.json")
    options: dict[str, Any] = record.get("options", {})
    lines = [run["command_line"]] if run.get("command_line") else []
    if options:
        parts = ["easycoreset", "select"]
        for name in REPRODUCED_OPTIONS:
            value = options.get(name)
            flag = f"--{name.replace('_', '-')}"
            if value is not None:
                parts += ([flag] if value else [f"--no-{flag[2:]}"]) if isinstance(value, bool) else [flag, str(value)]
        lines.append(shlex.join([*parts, "--out", str(options.get("out", "coreset.parquet"))]))
    return describe_commands([record, run], lines or ["no record of the commands was found beside the coreset"])


def _limits(coreset: Coreset, tables: SourceTables) -> list[str]:
    before, after = coreset.class_counts()
    names = tables.class_names
    scores = tables.scores
    emptied, starved = find_lost_classes(before, after)
    limits = [f"No sample of class {', '.join(names[k] for k in emptied)} is kept."] if len(emptied) else []
    limits += [f"Class {names[k]} is starved: {after[k]} of {before[k]} samples are kept." for k in starved]
    if scores is not None:
        unobserved = int(np.sum((scores.n_obs == 0) & coreset.keep))
        limits += [f"{unobserved} of the kept samples were never observed while scoring."] if unobserved else []
        if any(name.endswith("_online") for name in scores.columns):
            limits.append(
                "Columns that end in _online were measured in the training step, on augmented images; they "
                "approximate the exact measures."
            )
    return [
        *limits,
        "Hardness was measured with one model, recipe and seed; another model may rank the samples differently.",
        "Hard samples may be mislabelled, rare or merely difficult; hardness does not distinguish these.",
        "A model trained on fewer samples for the same epochs has fewer updates: compare with random samples at the "
        "same updates before crediting the selection.",
        f"The indices belong to the split {quote(coreset.provenance.get('split', 'train'))} of data with the "
        "fingerprint above, in its order.",
    ]
