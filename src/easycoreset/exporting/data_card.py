"""The data card of a coreset."""

import shlex
from typing import Any

import numpy as np

from easycoreset.errors import quote
from easycoreset.exporting.markdown import block, facts, listed, page, table
from easycoreset.exporting.sources import Tables, coreset_record, record_beside
from easycoreset.tables import Coreset, Scores

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
FLAGS = ("scores", "method", "by", "fraction", "per_class", "val_fraction", "exclude", "seed")


def describe_coreset(tables: Tables) -> str:
    """Data, fingerprint, method, class counts, hardness of kept and dropped, how to reproduce it, and its limits.

    Raises:
        UsageError: the source holds no coreset.
    """
    coreset = tables.need_coreset("card")
    total = len(coreset.keep)
    data = coreset.provenance.get("data", "a data set without a name")
    return page(
        f"Data card: {len(coreset)} of {total} samples of {data}",
        {
            "What it is": _what(coreset, tables.scores),
            "Classes": _classes(coreset, tables.class_names),
            "Hardness of what is kept and of what is dropped": _hardness(coreset, tables.scores),
            "How to reproduce it": _reproduce(tables),
            "Limits": listed(_limits(coreset, tables)),
        },
    )


def _what(coreset: Coreset, scores: Scores | None) -> str:
    known = coreset.provenance
    weight = coreset.weight[coreset.keep]
    even = bool(np.all(weight == weight[0]))
    scored = scores.provenance if scores is not None else {}
    return facts(
        {
            "data": known.get("data"),
            "split": known.get("split"),
            "fingerprint": known.get("fingerprint"),
            "method": known.get("method"),
            "fraction": known.get("fraction"),
            "kept": f"{len(coreset)} of {len(coreset.keep)} samples",
            "held out of the choice": known.get("val_fraction"),
            "samples left out of the choice": known.get("excluded"),
            "seed": known.get("seed"),
            "weights": f"all {weight[0]:.4g}" if even else f"{weight.min():.4g} to {weight.max():.4g}, mean 1",
            "scored by": scored.get("model"),
            "scored under": scored.get("objective"),
            "scored": scored.get("mode"),
            "scored epochs": None if scores is None else int(scores.n_obs.max()),
        }
    )


def _classes(coreset: Coreset, names: list[str]) -> str:
    before, after = coreset.class_counts()
    rows = [
        [name, n, kept, f"{kept / n:.1%}" if n else None]
        for name, n, kept in zip(names, before.tolist(), after.tolist(), strict=False)
    ]
    return table(["class", "before", "kept", "share"], rows)


def _hardness(coreset: Coreset, scores: Scores | None) -> str:
    if scores is None:
        return "The scores that it was chosen from do not lie where they were, so nothing is said of hardness.\n"
    rows: list[list[Any]] = []
    for name, values in scores.columns.items():
        for part, mask in (("kept", coreset.keep), ("dropped", ~coreset.keep)):
            known = values[mask & np.isfinite(values)].astype(np.float64)
            found = np.quantile(known, QUANTILES).tolist() if len(known) else [None] * len(QUANTILES)
            rows.append([name, part, *found, int(mask.sum()) - len(known)])
    columns = ["hardness", "samples", "easiest", "quarter", "median", "three quarters", "hardest", "not defined"]
    return "Higher is harder in every column.\n\n" + table(columns, rows)


def _reproduce(tables: Tables) -> str:
    record = coreset_record(tables)
    run = record_beside(tables.scores_file, "run.json")
    options: dict[str, Any] = record.get("options", {})
    lines = [run["command_line"]] if run.get("command_line") else []
    if options:
        parts = ["easycoreset", "select"]
        for name in FLAGS:
            value = options.get(name)
            flag = f"--{name.replace('_', '-')}"
            if value is not None:
                parts += ([flag] if value else [f"--no-{flag[2:]}"]) if isinstance(value, bool) else [flag, str(value)]
        lines.append(shlex.join([*parts, "--out", str(options.get("out", "coreset.parquet"))]))
    text = block(lines) if lines else "The files beside it do not say how it was made.\n"
    made = record.get("versions") or run.get("versions") or {}
    return text + ("\n" + facts(made) if made else "")


def _limits(coreset: Coreset, tables: Tables) -> list[str]:
    before, after = coreset.class_counts()
    names = tables.class_names
    scores = tables.scores
    emptied = [names[k] for k in np.flatnonzero((before > 0) & (after == 0))]
    found = [f"No sample of class {', '.join(emptied)} is kept."] if emptied else []
    fair = before * len(coreset) / before.sum()
    for k in np.flatnonzero((after > 0) & (after < fair / 10)):
        found.append(f"Class {names[k]} is starved: {after[k]} of {before[k]} samples are kept.")
    if scores is not None:
        unseen = int(np.sum((scores.n_obs == 0) & coreset.keep))
        found += [f"{unseen} of the kept samples were never observed while scoring."] if unseen else []
        if any(name.endswith("_online") for name in scores.columns):
            found.append(
                "Columns that end in _online were measured in the training step, on augmented images: they "
                "approximate the exact ones."
            )
    return [
        *found,
        "Hardness is that of one model, recipe and seed; another model may rank the same samples otherwise.",
        "Hard samples may be mislabelled, rare or merely difficult: hardness does not tell which.",
        "A model trained on fewer samples for the same epochs has fewer updates: compare with random samples at the "
        "same updates before the choice gets the credit.",
        f"The indices belong to the split {quote(coreset.provenance.get('split', 'train'))} of data with the "
        "fingerprint above, in its order.",
    ]
