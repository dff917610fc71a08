"""The data card of a coreset."""

import shlex
from typing import Any

import numpy as np

from easycoreset.errors import quote
from easycoreset.exporting.markdown import bullet_list, card_page, code_block, key_value_table, markdown_table
from easycoreset.exporting.source_tables import SourceTables, read_coreset_record, read_record_beside
from easycoreset.tables import Coreset, Scores
from easycoreset.tables.coreset import find_lost_classes

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
REPRODUCED_OPTIONS = ("scores", "method", "by", "fraction", "per_class", "val_fraction", "exclude", "seed")


def describe_coreset(tables: SourceTables) -> str:
    """The card's text: data, fingerprint, method, class counts, hardness of kept and dropped samples, command, limits.

    Raises:
        UsageError: the source holds no coreset.
    """
    coreset = tables.require_coreset("card")
    total = len(coreset.keep)
    data = coreset.provenance.get("data", "a data set without a name")
    return card_page(
        f"Data card: {len(coreset)} of {total} samples of {data}",
        {
            "Summary": _summary(coreset, tables.scores),
            "Classes": _classes(coreset, tables.class_names),
            "Hardness of kept and dropped samples": _hardness(coreset, tables.scores),
            "How to reproduce it": _reproduce(tables),
            "Limits": bullet_list(_limits(coreset, tables)),
        },
    )


def _summary(coreset: Coreset, scores: Scores | None) -> str:
    provenance = coreset.provenance
    weights = coreset.weight[coreset.keep]
    is_uniform = bool(np.all(weights == weights[0]))
    scoring = scores.provenance if scores is not None else {}
    return key_value_table(
        {
            "data": provenance.get("data"),
            "split": provenance.get("split"),
            "fingerprint": provenance.get("fingerprint"),
            "method": provenance.get("method"),
            "fraction": provenance.get("fraction"),
            "kept": f"{len(coreset)} of {len(coreset.keep)} samples",
            "fraction held out for validation": provenance.get("val_fraction"),
            "samples excluded from selection": provenance.get("excluded"),
            "seed": provenance.get("seed"),
            "weights": f"all {weights[0]:.4g}" if is_uniform else f"{weights.min():.4g} to {weights.max():.4g}, mean 1",
            "scoring model": scoring.get("model"),
            "scoring objective": scoring.get("objective"),
            "scoring mode": scoring.get("mode"),
            "scored epochs": None if scores is None else int(scores.n_obs.max()),
        }
    )


def _classes(coreset: Coreset, names: list[str]) -> str:
    before, after = coreset.class_counts()
    rows = [
        [name, n, kept, f"{kept / n:.1%}" if n else None]
        for name, n, kept in zip(names, before.tolist(), after.tolist(), strict=False)
    ]
    return markdown_table(["class", "before", "kept", "share"], rows)


def _hardness(coreset: Coreset, scores: Scores | None) -> str:
    if scores is None:
        return "The scores that it was selected from were not found, so the hardness is not known.\n"
    rows: list[list[Any]] = []
    for name, values in scores.columns.items():
        for part, mask in (("kept", coreset.keep), ("dropped", ~coreset.keep)):
            finite = values[mask & np.isfinite(values)].astype(np.float64)
            quantiles = np.quantile(finite, QUANTILES).tolist() if len(finite) else [None] * len(QUANTILES)
            rows.append([name, part, *quantiles, int(mask.sum()) - len(finite)])
    columns = ["hardness", "samples", "easiest", "quarter", "median", "three quarters", "hardest", "not defined"]
    return "Higher is harder in every column.\n\n" + markdown_table(columns, rows)


def _reproduce(tables: SourceTables) -> str:
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
    text = code_block(lines) if lines else "No record of the commands was found beside the coreset.\n"
    package_versions = record.get("versions") or run.get("versions") or {}
    return text + ("\n" + key_value_table(package_versions) if package_versions else "")


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
