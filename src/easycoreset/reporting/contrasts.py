"""The contrasts of a comparison: for people on the page, for programs in `contrasts.json`."""

import dataclasses
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import say_eps, say_share
from easycoreset.errors import UsageError, quote
from easycoreset.files import SCHEMA_VERSION, write_json
from easycoreset.parquet import read_table
from easycoreset.records import read_record
from easycoreset.reporting.page import Grid
from easycoreset.statistics import Contrast, Estimate, Outcomes, Plans, contrast_all, read_plans
from easycoreset.statistics.outcomes import STRONG

CONTRASTS = "contrasts.json"
OUTCOMES = {"index": "integer", "label": "integer", "attack": "text", "eps": "number", "broken": "bool"}
MANY = 12  # contrasts that are told one by one


def contrasts_of(folder: Path, results: pa.Table) -> list[Contrast]:
    """Every contrast in an experiment's folder, the declared ones first."""
    plans = read_plans(read_experiment(folder))
    return contrast_all(outcomes_of(folder, results, plans), plans)


def outcomes_of(folder: Path, results: pa.Table, plans: Plans) -> Outcomes:
    """What happened to every test image, read from the cells when it is asked for.

    Cells that declared contrasts rest on are there too where the last start left them out.
    """
    names = [name for name in RESULTS if name in results.column_names]
    rows = results.select(names).to_pylist()
    known = {row["cell"] for row in rows}
    named = dict.fromkeys(name for plan in plans.family for name in plan.cells if name not in known)
    rows += [
        row for name in named if (folder / "cells" / name / "cell.json").exists() for row in _rows_of(folder, name)
    ]
    whole = pa.Table.from_pylist(rows) if rows else results
    return Outcomes(whole, partial(load_outcomes, folder), partial(load_strong, folder))


def _rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a finished cell, as far as contrasts look at them."""
    if re.fullmatch(r"[0-9a-f]{16}", name) is None:
        raise UsageError(f"{folder / 'run.json'}: a cell must be 16 hex digits; got {quote(name)}")
    record = read_record(folder / "cells" / name / "cell.json")
    options = record["options"]
    lines = record["attacked"]
    main = options.get("main_eps") or lines[0]["eps"]
    facts = {
        key: options.get(key)
        for key in ("data", "model", "method", "fraction", "objective", "updates", "epochs", "seed")
    }
    return [{"cell": name, "main": main, **facts, "attack": line["attack"], "eps": line["eps"]} for line in lines]


def write_contrasts(folder: Path) -> None:
    """Write `contrasts.json`: gains, intervals, p and verdicts as the page tells them."""
    lines = [contrast_json(contrast) for contrast in contrasts_of(folder, read_results(folder))]
    write_json(folder / CONTRASTS, {"schema_version": SCHEMA_VERSION, "contrasts": lines})


def contrast_json(contrast: Contrast) -> dict[str, Any]:
    """A contrast as JSON values: its plan, its figures, its verdict and what that says."""
    facts = {name: value for name, value in vars(contrast).items() if name not in ("plan", "estimate")}
    whole = {} if contrast.estimate is None else dataclasses.asdict(contrast.estimate)
    figures = {
        "gain": contrast.gain,
        "low": contrast.low,
        "high": contrast.high,
        "p": contrast.p,
        "seed_variance": whole.get("seed_variance"),
        "image_variance": whole.get("image_variance"),
        "images": whole.get("images"),
    }
    words = {"verdict": contrast.verdict, "says": contrast.sentence()}
    return _finite({**contrast.plan.to_json(), **figures, **facts, **words})


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, Estimate):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


RESULTS = {
    **dict.fromkeys(("cell", "method", "objective", "attack", "data"), "text"),
    "model": "text?",
    "norm": "text?",
    **dict.fromkeys(("fraction", "clean", "eps", "accuracy", "main", "seconds", "selection_seconds"), "number"),
    **dict.fromkeys(("seed", "samples", "kept", "warnings"), "integer"),
    "selection_mb": "number?",
    "weighted": "bool",
    **dict.fromkeys(("updates", "epochs"), "integer?"),
}
SHARES = ("fraction", "clean", "accuracy")


def read_results(folder: Path) -> pa.Table:
    """An experiment's `results.parquet`.

    Raises:
        UsageError: it is missing or damaged, or names a cell that is no folder of the experiment's.
    """
    table = read_table(folder / "results.parquet", RESULTS)
    for name in set(table["cell"].to_pylist()):
        if re.fullmatch(r"[0-9a-f]{16}", name) is None:
            raise UsageError(f"{folder / 'results.parquet'}: a cell must be 16 hex digits; got {quote(name)}")
    for name in (name for name, kind in RESULTS.items() if kind == "number"):
        if not np.isfinite(table[name].to_numpy()).all():
            raise UsageError(f"{folder / 'results.parquet'}: column {quote(name)} must be finite")
        if name in SHARES and not ((table[name].to_numpy() >= 0) & (table[name].to_numpy() <= 1)).all():
            raise UsageError(f"{folder / 'results.parquet'}: column {quote(name)} must be in [0, 1]")
    images: dict[tuple[Any, ...], int] = {}
    cells: dict[str, tuple[Any, ...]] = {}
    for row in table.to_pylist():
        facts = tuple(row[name] for name in ("data", "model", "method", "objective", "fraction", "seed", "clean"))
        if cells.setdefault(row["cell"], facts) != facts:
            raise UsageError(f"{folder / 'results.parquet'}: the rows of cell {row['cell']} are of several cells")
        key = tuple(row[name] for name in ("data", "model", "objective", "fraction", "eps"))
        if images.setdefault(key, row["samples"]) != row["samples"] or (row["updates"] or row["epochs"]) is None:
            raise UsageError(
                f"{folder / 'results.parquet'}: rows that are compared must be of the same images, each with a budget"
            )
    return table


def tell_verdicts(declared: Sequence[Contrast]) -> list[str]:
    """A sentence for each declared contrast; of many, those that say something, and one line for the rest."""
    telling = [contrast for contrast in declared if contrast.verdict in ("gain", "loss") or contrast.primary]
    if len(declared) <= MANY:
        return [contrast.sentence() for contrast in declared]
    points = [contrast.sentence() for contrast in sorted(telling, key=lambda c: (not c.primary, -c.gain))]
    for verdict in dict.fromkeys(contrast.verdict for contrast in declared if contrast not in telling):
        named = [
            f"{c.method} against {c.against} ({c.plan.objective}, {say_share(c.plan.fraction)})"
            for c in declared
            if c.verdict == verdict and c not in telling
        ]
        points.append(f"{verdict.capitalize()}, {len(named)} contrasts: {', '.join(named)}.")
    return points


def contrast_table(contrasts: Sequence[Contrast]) -> Grid:
    """All of them, for the page."""
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
                say_eps(plan.eps),
                plan.kind,
                status,
                *map(_points, (c.gain, c.low, c.high)),
                _short(c.p),
                _short(c.p_holm),
                len(c.gains),
                images,
                c.verdict,
            ]
        )
    return Grid("gains in robust accuracy", columns, rows)


def sensitivity_table(declared: Sequence[Contrast]) -> Grid:
    """Of every declared contrast each seed's gain, and what it rests on."""
    seeds = sorted({seed for contrast in declared for seed in contrast.gains})
    attacks = list(dict.fromkeys(name for contrast in declared for name in contrast.strong))
    strong = [f"{name}: {what}" for name in attacks for what in ("gain", "low", "high", "images")]
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
        *strong,
    ]
    rows: list[list[Any]] = []
    for c in declared:
        rest = c.without_extreme
        without = (None, None, None) if rest is None else (rest.mean, rest.low, rest.high)
        row: list[Any] = [c.method, c.against, c.plan.objective, c.plan.fraction]
        row += [_points(c.gains.get(seed, math.nan)) for seed in seeds]
        row += [*map(_points, (c.gain, c.low, c.high)), c.extreme, *map(_points, without), _short(c.sign_flip_p)]
        for name in attacks:
            under = c.strong.get(name)
            figures = (None, None, None) if under is None else (under.mean, under.low, under.high)
            row += [*map(_points, figures), None if under is None else under.images]
        rows.append(row)
    return Grid("gains in points, seed by seed", columns, rows)


def _points(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(100 * value, 2)


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def load_outcomes(folder: Path, name: str) -> pa.Table:
    """A cell's per-image outcomes.

    Raises:
        UsageError: they are missing or damaged, or are of attacked images that were not predicted clean, once each.
    """
    file = folder / "cells" / name / "predictions.parquet"
    table = read_table(file, OUTCOMES)
    index = table["index"].to_numpy()
    attacks = np.array(table["attack"].to_pylist(), object)
    clean = index[attacks == "clean"]
    fine = len(np.unique(clean)) == len(clean) > 0 and np.isin(index, clean).all() and not table["broken"].null_count
    if not fine or not np.isfinite(table["eps"].to_numpy()).all():
        raise UsageError(f"{file}: must hold every attacked image once as clean, at finite eps")
    return table


def load_strong(folder: Path, name: str) -> pa.Table | None:
    """What strong attacks did to some of a cell's images; None where there were none.

    Raises:
        UsageError: they are damaged, or are of images that the cell does not have.
    """
    file = folder / "cells" / name / STRONG
    if not file.exists():
        return None
    table = read_table(file, OUTCOMES)
    known = load_outcomes(folder, name)["index"].to_numpy()
    fine = np.isin(table["index"].to_numpy(), known).all() and not table["broken"].null_count
    if not fine or not np.isfinite(table["eps"].to_numpy()).all():
        raise UsageError(f"{file}: must be of images that predictions.parquet holds, at finite eps")
    return table


def read_experiment(folder: Path) -> dict[str, Any]:
    """What an experiment's `run.json` says; empty where there is none.

    Raises:
        UsageError: it is damaged, or of a version whose records are others.
    """
    file = folder / "run.json"
    record = read_record(file) if file.exists() else {}
    if record.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        version = quote(record["schema_version"])
        raise UsageError(f"{file}: schema_version must be {SCHEMA_VERSION}; it is {version}")
    return record
