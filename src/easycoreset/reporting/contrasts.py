"""The contrasts of a comparison, as tables and sentences for the page and as JSON values for `contrasts.json`."""

import dataclasses
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import format_eps, format_percent
from easycoreset.errors import UsageError, quote
from easycoreset.files import SCHEMA_VERSION, write_json
from easycoreset.parquet import read_table
from easycoreset.records import read_record
from easycoreset.reporting.page import DataTable
from easycoreset.statistics import Contrast, Estimate, Outcomes, Plans, contrast_all, read_plans
from easycoreset.statistics.outcomes import STRONG_FILE

CONTRASTS_FILE = "contrasts.json"
OUTCOME_COLUMNS = {"index": "integer", "label": "integer", "attack": "text", "eps": "number", "broken": "bool"}
MAX_SENTENCES = 12  # declared contrasts that have a sentence each


def measure_contrasts(folder: Path, results: pa.Table) -> list[Contrast]:
    """Every contrast in an experiment's folder, the declared ones first."""
    plans = read_plans(read_experiment_record(folder))
    return contrast_all(open_outcomes(folder, results, plans), plans)


def open_outcomes(folder: Path, results: pa.Table, plans: Plans) -> Outcomes:
    """The outcomes of every test image, read from the cells on demand.

    They include cells that declared contrasts use but the last start left out.
    """
    columns = [name for name in RESULT_COLUMNS if name in results.column_names]
    rows = results.select(columns).to_pylist()
    listed = {row["cell"] for row in rows}
    missing = dict.fromkeys(name for plan in plans.family for name in plan.cells if name not in listed)
    rows += [
        row for name in missing if (folder / "cells" / name / "cell.json").exists() for row in _cell_rows(folder, name)
    ]
    table = pa.Table.from_pylist(rows) if rows else results
    return Outcomes(table, partial(load_outcomes, folder), partial(load_strong, folder))


def _cell_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a finished cell, with the columns that contrasts use."""
    if re.fullmatch(r"[0-9a-f]{16}", name) is None:
        raise UsageError(f"{folder / 'run.json'}: a cell must be 16 hex digits; got {quote(name)}")
    record = read_record(folder / "cells" / name / "cell.json")
    options = record["options"]
    attacked = record["attacked"]
    main = options.get("main_eps") or attacked[0]["eps"]
    facts = {
        key: options.get(key)
        for key in ("data", "model", "method", "fraction", "objective", "updates", "epochs", "seed")
    }
    return [{"cell": name, "main": main, **facts, "attack": entry["attack"], "eps": entry["eps"]} for entry in attacked]


def write_contrasts(folder: Path) -> None:
    """Write `contrasts.json`: the gains, intervals, p values and verdicts that the page shows."""
    values = [contrast_to_json(contrast) for contrast in measure_contrasts(folder, read_results(folder))]
    write_json(folder / CONTRASTS_FILE, {"schema_version": SCHEMA_VERSION, "contrasts": values})


def contrast_to_json(contrast: Contrast) -> dict[str, Any]:
    """A contrast as JSON values: its plan, its statistics, its verdict and the sentence that states it."""
    facts = {name: value for name, value in vars(contrast).items() if name not in ("plan", "estimate")}
    statistics = {} if contrast.estimate is None else dataclasses.asdict(contrast.estimate)
    figures = {
        "gain": contrast.gain,
        "low": contrast.low,
        "high": contrast.high,
        "p": contrast.p,
        "seed_variance": statistics.get("seed_variance"),
        "image_variance": statistics.get("image_variance"),
        "images": statistics.get("images"),
    }
    words = {"verdict": contrast.verdict, "says": contrast.describe()}
    return _nan_to_null({**contrast.plan.to_json(), **figures, **facts, **words})


def _nan_to_null(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None; estimates become dictionaries."""
    if isinstance(value, Estimate):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


RESULT_COLUMNS = {  # name -> type; `?` allows nulls
    **dict.fromkeys(("cell", "method", "objective", "attack", "data"), "text"),
    "model": "text?",
    "norm": "text?",
    **dict.fromkeys(("fraction", "clean", "eps", "accuracy", "main", "seconds", "selection_seconds"), "number"),
    **dict.fromkeys(("seed", "samples", "kept", "warnings"), "integer"),
    "selection_mb": "number?",
    "weighted": "bool",
    **dict.fromkeys(("updates", "epochs"), "integer?"),
}
SHARE_COLUMNS = ("fraction", "clean", "accuracy")


def read_results(folder: Path) -> pa.Table:
    """An experiment's `results.parquet`.

    Raises:
        UsageError: it is missing or damaged, or a cell's name is not 16 hex digits.
    """
    table = read_table(folder / "results.parquet", RESULT_COLUMNS)
    for name in set(table["cell"].to_pylist()):
        if re.fullmatch(r"[0-9a-f]{16}", name) is None:
            raise UsageError(f"{folder / 'results.parquet'}: a cell must be 16 hex digits; got {quote(name)}")
    for name in (name for name, kind in RESULT_COLUMNS.items() if kind == "number"):
        if not np.isfinite(table[name].to_numpy()).all():
            raise UsageError(f"{folder / 'results.parquet'}: column {quote(name)} must be finite")
        if name in SHARE_COLUMNS and not ((table[name].to_numpy() >= 0) & (table[name].to_numpy() <= 1)).all():
            raise UsageError(f"{folder / 'results.parquet'}: column {quote(name)} must be in [0, 1]")
    image_counts: dict[tuple[Any, ...], int] = {}
    facts_by_cell: dict[str, tuple[Any, ...]] = {}
    for row in table.to_pylist():
        facts = tuple(row[name] for name in ("data", "model", "method", "objective", "fraction", "seed", "clean"))
        if facts_by_cell.setdefault(row["cell"], facts) != facts:
            raise UsageError(f"{folder / 'results.parquet'}: the rows of cell {row['cell']} contradict each other")
        key = tuple(row[name] for name in ("data", "model", "objective", "fraction", "eps"))
        if image_counts.setdefault(key, row["samples"]) != row["samples"] or (row["updates"] or row["epochs"]) is None:
            raise UsageError(
                f"{folder / 'results.parquet'}: rows that are compared must have equally many images, and a budget each"
            )
    return table


def verdict_sentences(declared: Sequence[Contrast]) -> list[str]:
    """A sentence for each declared contrast.

    If there are more than `MAX_SENTENCES`, only gains, losses and the primary contrast have a sentence each, and the
    others are listed by verdict.
    """
    conclusive = [contrast for contrast in declared if contrast.verdict in ("gain", "loss") or contrast.primary]
    if len(declared) <= MAX_SENTENCES:
        return [contrast.describe() for contrast in declared]
    sentences = [contrast.describe() for contrast in sorted(conclusive, key=lambda c: (not c.primary, -c.gain))]
    for verdict in dict.fromkeys(contrast.verdict for contrast in declared if contrast not in conclusive):
        descriptions = [
            f"{c.method} against {c.against} ({c.plan.objective}, {format_percent(c.plan.fraction)})"
            for c in declared
            if c.verdict == verdict and c not in conclusive
        ]
        sentences.append(f"{verdict.capitalize()}, {len(descriptions)} contrasts: {', '.join(descriptions)}.")
    return sentences


def make_contrast_table(contrasts: Sequence[Contrast]) -> DataTable:
    """The table of all contrasts."""
    columns = [
        "method",
        "against",
        "objective",
        "kept",
        "budget",
        "eps",
        "compared at",
        "declared",
        "gain, points",
        "low",
        "high",
        "p",
        "Holm's p",
        "seeds",
        "images",
        "verdict",
    ]
    rows: list[list[Any]] = []
    for c in contrasts:
        plan = c.plan
        images = None if c.estimate is None else c.estimate.images
        status = "primary" if c.primary else "yes" if c.declared else f"no: {c.note}" if c.note else "no"
        rows.append(
            [
                plan.method,
                plan.against,
                plan.objective,
                plan.fraction,
                f"{plan.size} {plan.unit}",
                format_eps(plan.eps),
                plan.kind,
                status,
                *map(_in_points, (c.gain, c.low, c.high)),
                _three_digits(c.p),
                _three_digits(c.p_holm),
                len(c.gains),
                images,
                c.verdict,
            ]
        )
    return DataTable("gains in robust accuracy", columns, rows)


def make_sensitivity_table(declared: Sequence[Contrast]) -> DataTable:
    """The table of each declared contrast's gain by seed, without its extreme seed and under strong attacks."""
    seeds = sorted({seed for contrast in declared for seed in contrast.gains})
    attacks = list(dict.fromkeys(name for contrast in declared for name in contrast.strong))
    strong_columns = [f"{name}: {statistic}" for name in attacks for statistic in ("gain", "low", "high", "images")]
    columns = [
        "method",
        "against",
        "objective",
        "kept",
        *(f"seed {seed}" for seed in seeds),
        "gain",
        "low",
        "high",
        "without seed",
        "gain without it",
        "its low",
        "its high",
        "sign-flip p",
        *strong_columns,
    ]
    rows: list[list[Any]] = []
    for c in declared:
        trimmed = c.without_extreme
        trimmed_figures = (None, None, None) if trimmed is None else (trimmed.mean, trimmed.low, trimmed.high)
        row: list[Any] = [c.method, c.against, c.plan.objective, c.plan.fraction]
        row += [_in_points(c.gains.get(seed, math.nan)) for seed in seeds]
        row += [
            *map(_in_points, (c.gain, c.low, c.high)),
            c.extreme,
            *map(_in_points, trimmed_figures),
            _three_digits(c.sign_flip_p),
        ]
        for name in attacks:
            strong = c.strong.get(name)
            figures = (None, None, None) if strong is None else (strong.mean, strong.low, strong.high)
            row += [*map(_in_points, figures), None if strong is None else strong.images]
        rows.append(row)
    return DataTable("gains in points, seed by seed", columns, rows)


def _in_points(value: float | None) -> float | None:
    """A share as percentage points, rounded to two digits; None if missing or not finite."""
    return None if value is None or not math.isfinite(value) else round(100 * value, 2)


def _three_digits(value: float) -> float | None:
    """Round to three significant digits; None if not finite."""
    return float(f"{value:.3g}") if math.isfinite(value) else None


def load_outcomes(folder: Path, name: str) -> pa.Table:
    """A cell's per-image outcomes.

    Raises:
        UsageError: they are missing or damaged, or an attacked image does not have exactly one clean prediction.
    """
    file = folder / "cells" / name / "predictions.parquet"
    table = read_table(file, OUTCOME_COLUMNS)
    index = table["index"].to_numpy()
    attacks = np.array(table["attack"].to_pylist(), object)
    clean = index[attacks == "clean"]
    is_valid = (
        len(np.unique(clean)) == len(clean) > 0 and np.isin(index, clean).all() and not table["broken"].null_count
    )
    if not is_valid or not np.isfinite(table["eps"].to_numpy()).all():
        raise UsageError(f"{file}: must contain exactly one clean row of every attacked image, and finite eps")
    return table


def load_strong(folder: Path, name: str) -> pa.Table | None:
    """The outcomes of strong attacks on some of a cell's images; None where there were none.

    Raises:
        UsageError: they are damaged, or contain images that the cell does not have.
    """
    file = folder / "cells" / name / STRONG_FILE
    if not file.exists():
        return None
    table = read_table(file, OUTCOME_COLUMNS)
    cell_images = load_outcomes(folder, name)["index"].to_numpy()
    is_valid = np.isin(table["index"].to_numpy(), cell_images).all() and not table["broken"].null_count
    if not is_valid or not np.isfinite(table["eps"].to_numpy()).all():
        raise UsageError(f"{file}: must contain only images of predictions.parquet, at finite eps")
    return table


def read_experiment_record(folder: Path) -> dict[str, Any]:
    """An experiment's `run.json`; empty where there is none.

    Raises:
        UsageError: it is damaged, or has another schema version.
    """
    file = folder / "run.json"
    record = read_record(file) if file.exists() else {}
    if record.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        version = quote(record["schema_version"])
        raise UsageError(f"{file}: schema_version must be {SCHEMA_VERSION}; got {version}")
    return record
