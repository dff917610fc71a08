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
from easycoreset.documents import DataTable
from easycoreset.errors import UsageError, quote
from easycoreset.files import SCHEMA_VERSION
from easycoreset.parquet import read_table
from easycoreset.plan_folders import RESULTS, read_cell, read_plan, step_folder
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.statistics import Contrast, Estimate, Outcomes, contrast_all, read_plans
from easycoreset.statistics.results import cell_rows

CONTRASTS_FILE = "contrasts.json"
OUTCOME_COLUMNS = {"index": "integer", "label": "integer", "attack": "text", "eps": "number", "broken": "bool"}
MAX_SENTENCES = 12  # declared contrasts that have a sentence each


class ComparisonResults:
    """The results of a comparison's folder, each computed once.

    Attributes:
        folder: the folder.
        results: its table.
        record: its plan.
        outcomes: the outcomes of every test image, read on demand.
        contrasts: the declared contrasts first, then every method against random and all data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = read_results(folder)
        self.record: dict[str, Any] = {"cells": []} | read_plan(folder)
        self.outcomes = open_outcomes(folder, self.results)
        self.contrasts = contrast_all(self.outcomes, read_plans(self.record)) if self.results.num_rows else []


def open_outcomes(folder: Path, results: pa.Table) -> Outcomes:
    """The outcomes of every test image, read from the evaluations on demand.

    They include cells that declared contrasts use, even if newer cells with the same options have superseded them.
    """
    rows = results.select([name for name in RESULT_COLUMNS if name in results.column_names]).to_pylist()
    for cell in read_plan(folder).get("cells", ()):
        if cell["superseded"] and (record := read_cell(folder, cell)) is not None:
            rows += cell_rows(folder, record)
    table = pa.Table.from_pylist(rows) if rows else results
    return Outcomes(table, partial(load_outcomes, folder))


def contrasts_record(contrasts: Sequence[Contrast]) -> dict[str, Any]:
    """What `contrasts.json` holds: the gains, intervals, p values and verdicts that the page shows."""
    return {"schema_version": SCHEMA_VERSION, "contrasts": [contrast_to_json(contrast) for contrast in contrasts]}


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
    **dict.fromkeys(("cell", "method", "objective", "attack", "data", "variant"), "text"),
    **dict.fromkeys(("model", "evaluation", "scoring"), "text?"),
    "norm": "text?",
    **dict.fromkeys(("fraction", "clean", "eps", "accuracy", "main", "seconds", "selection_seconds"), "number"),
    **dict.fromkeys(("seed", "samples", "kept", "warnings"), "integer"),
    "selection_mb": "number?",
    **dict.fromkeys(("weighted", "strong"), "bool"),
    **dict.fromkeys(("updates", "epochs"), "integer?"),
}
SHARE_COLUMNS = ("fraction", "clean", "accuracy")


def read_results(folder: Path) -> pa.Table:
    """An experiment's `results.parquet`.

    Raises:
        UsageError: it is missing or damaged, or a cell's name is not 16 hex digits.
    """
    table = read_table(folder / RESULTS, RESULT_COLUMNS)
    for name in {name for column in ("cell", "evaluation") for name in table[column].to_pylist() if name is not None}:
        if re.fullmatch(r"[0-9a-f]{16}", name) is None:
            raise UsageError(f"{folder / RESULTS}: a cell must be 16 hex digits; got {quote(name)}")
    for name in (name for name, kind in RESULT_COLUMNS.items() if kind == "number"):
        if not np.isfinite(table[name].to_numpy()).all():
            raise UsageError(f"{folder / RESULTS}: column {quote(name)} must be finite")
        if name in SHARE_COLUMNS and not ((table[name].to_numpy() >= 0) & (table[name].to_numpy() <= 1)).all():
            raise UsageError(f"{folder / RESULTS}: column {quote(name)} must be in [0, 1]")
    image_counts: dict[tuple[Any, ...], int] = {}
    facts_by_cell: dict[str, tuple[Any, ...]] = {}
    for row in table.to_pylist():
        facts = tuple(
            row[name] for name in ("data", "model", "variant", "method", "objective", "fraction", "seed", "clean")
        )
        if facts_by_cell.setdefault(row["cell"], facts) != facts:
            raise UsageError(f"{folder / RESULTS}: the rows of cell {row['cell']} contradict each other")
        names = ("data", "model", "variant", "objective", "fraction", "eps")
        key = (*(row[name] for name in names), row["attack"] if row["strong"] else "")
        if image_counts.setdefault(key, row["samples"]) != row["samples"] or (row["updates"] or row["epochs"]) is None:
            raise UsageError(
                f"{folder / RESULTS}: rows that are compared must have equally many images, and a budget each"
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
            f"{c.method} against {c.against} ({c.label}{c.plan.objective}, {format_percent(c.plan.fraction)})"
            for c in declared
            if c.verdict == verdict and c not in conclusive
        ]
        sentences.append(f"{verdict.capitalize()}, {len(descriptions)} contrasts: {', '.join(descriptions)}.")
    return sentences


def make_contrast_table(contrasts: Sequence[Contrast]) -> DataTable:
    """The table of all contrasts."""
    settings = SettingCells(contrast.plan.setting for contrast in contrasts)
    columns = [
        "method",
        "against",
        *settings.columns,
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
                *settings.of(plan.setting),
                f"{plan.size} {plan.unit}",
                format_eps(plan.eps),
                plan.kind,
                status,
                *map(_in_points, (c.gain, c.low, c.high)),
                _three_digits(c.p),
                _three_digits(c.p_holm),
                len(c.gains),
                images,
                _verdict_cell(c),
            ]
        )
    return DataTable("gains in robust accuracy", columns, rows)


def _verdict_cell(contrast: Contrast) -> str:
    """The verdict; an exploratory gain or loss is marked, and the reason is given if it is not measurable."""
    if contrast.verdict in ("gain", "loss"):
        return contrast.verdict if contrast.declared else f"{contrast.verdict} (exploratory)"
    return f"{contrast.verdict}: {contrast.problem}" if contrast.problem else contrast.verdict


def make_overview_table(contrasts: Sequence[Contrast]) -> DataTable | None:
    """What each method gains on every data set and model, and whether in all; None where there is only one of them.

    Contrasts are within one data set and model; this table lists their verdicts side by side and tests nothing more.
    """
    places = {(contrast.plan.data, contrast.plan.model): None for contrast in contrasts}
    if len(places) < 2:
        return None
    by_row: dict[tuple[Any, ...], dict[tuple[str, str | None], Contrast]] = {}
    for contrast in contrasts:
        plan = contrast.plan
        setting = plan.setting._replace(data="", model="")
        row = by_row.setdefault((setting, plan.method, plan.against, plan.kind, plan.size, plan.unit), {})
        row.setdefault((plan.data, plan.model), contrast)  # the declared ones come first
    settings = SettingCells(key[0] for key in by_row)
    rows: list[list[Any]] = []
    for (setting, method, against, kind, size, unit), found in by_row.items():
        verdicts = [found[place].verdict if place in found else "not compared" for place in places]
        cells = [f"{found[place].verdict}{_signed(found[place].gain)}" if place in found else None for place in places]
        in_all = f"{verdicts[0]} in all" if len(set(verdicts)) == 1 else ""
        rows.append([method, against, *settings.of(setting), f"{size} {unit}", kind, *cells, in_all])
    columns = ["method", "against", *settings.columns, "budget", "compared at"]
    columns += [", ".join(map(str, place)) for place in places]
    return DataTable("verdict and gain in points on each data set and model", [*columns, "in all"], rows)


def _signed(gain: float) -> str:
    """A gain in points after its verdict; empty if it is not measurable."""
    return f", {100 * gain:+.1f}" if math.isfinite(gain) else ""


def make_sensitivity_table(declared: Sequence[Contrast]) -> DataTable:
    """The table of each declared contrast's gain by seed, without its extreme seed and under strong attacks."""
    seeds = sorted({seed for contrast in declared for seed in contrast.gains})
    attacks = list(dict.fromkeys(name for contrast in declared for name in contrast.strong))
    strong_columns = [f"{name}: {statistic}" for name in attacks for statistic in ("gain", "low", "high", "images")]
    settings = SettingCells(contrast.plan.setting for contrast in declared)
    columns = [
        "method",
        "against",
        *settings.columns,
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
        row: list[Any] = [c.method, c.against, *settings.of(c.plan.setting)]
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


def load_outcomes(folder: Path, key: str) -> pa.Table:
    """The outcomes of each image in one evaluation.

    Raises:
        UsageError: they are missing or damaged, or an attacked image does not have exactly one clean prediction.
    """
    file = step_folder(folder, "evaluate", key) / "predictions.parquet"
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
