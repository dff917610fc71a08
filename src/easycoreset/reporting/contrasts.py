"""The contrasts of a comparison with random: for people on the page, for programs in `contrasts.json`."""

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
from easycoreset.statistics import Contrast, contrast_all

CONTRASTS = "contrasts.json"
MANY = 12  # contrasts that are told one by one


def contrasts_of(folder: Path, results: pa.Table) -> list[Contrast]:
    """Every contrast with random in an experiment's folder, the declared ones first."""
    record = read_experiment(folder)
    load = partial(load_outcomes, folder)
    return contrast_all(results, load, declared_kinds(record), planned_budgets(record))


def write_contrasts(folder: Path) -> None:
    """Write `contrasts.json`: gains, intervals, p and verdicts as the page tells them."""
    found = contrasts_of(folder, read_results(folder))
    lines = [dataclasses.asdict(c) | {"verdict": c.verdict, "says": c.sentence()} for c in found]
    known = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()} for line in lines
    ]
    write_json(folder / CONTRASTS, {"schema_version": SCHEMA_VERSION, "contrasts": known})


RESULTS = {
    **dict.fromkeys(("cell", "method", "objective", "attack", "data"), "text"), "model": "text?", "norm": "text?",
    **dict.fromkeys(("fraction", "clean", "eps", "accuracy", "main", "seconds", "selection_seconds"), "number"),
    **dict.fromkeys(("seed", "samples", "kept", "warnings"), "integer"), "selection_mb": "number?", "weighted": "bool",
    **dict.fromkeys(("updates", "epochs"), "integer?"),
}  # fmt: skip
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
    for row in table.to_pylist():
        key = tuple(row[name] for name in ("data", "model", "objective", "fraction", "eps"))
        if images.setdefault(key, row["samples"]) != row["samples"] or (row["updates"] or row["epochs"]) is None:
            raise UsageError(f"{folder / 'results.parquet'}: rows that are compared must be of the same images, each "
                             "with a budget")  # fmt: skip
    return table


def tell_verdicts(declared: Sequence[Contrast]) -> list[str]:
    """A sentence for each declared contrast; of many, those that say something, and one line for the rest."""
    telling = [contrast for contrast in declared if contrast.verdict in ("gain", "loss")]
    if len(declared) <= MANY:
        return [contrast.sentence() for contrast in declared]
    points = [contrast.sentence() for contrast in sorted(telling, key=lambda contrast: -contrast.gain)]
    for verdict in dict.fromkeys(contrast.verdict for contrast in declared if contrast not in telling):
        named = [f"{c.method} ({c.objective}, {say_share(c.fraction)})" for c in declared if c.verdict == verdict]
        points.append(f"{verdict.capitalize()}, {len(named)} contrasts: {', '.join(named)}.")
    return points


def contrast_table(contrasts: Sequence[Contrast]) -> Grid:
    """All of them, for the page."""
    columns = ["method", "objective", "kept", "budget", "eps", "compared at", "declared", "gain, points", "low", "high",
               "p",
               "Holm's p", "seeds", "verdict"]  # fmt: skip
    rows = []
    for c in contrasts:
        numbers = [None if v != v else round(100 * v, 2) for v in (c.gain, c.low, c.high)]
        ps = [None if p != p else float(f"{p:.3g}") for p in (c.p, c.p_holm)]
        seeds = sum(gain is not None for gain in c.gains.values())
        rows.append([c.method, c.objective, c.fraction, c.budget, say_eps(c.eps), c.kind, "yes" if c.declared else "no",
                     *numbers, *ps, seeds, c.verdict])  # fmt: skip
    return Grid("gains in robust accuracy over random", columns, rows)


def load_outcomes(folder: Path, name: str) -> pa.Table:
    """A cell's per-image outcomes.

    Raises:
        UsageError: they are missing or damaged, or are of attacked images that were not predicted clean, once each.
    """
    file = folder / "cells" / name / "predictions.parquet"
    table = read_table(file, {"index": "integer", "attack": "text", "eps": "number", "broken": "bool"})
    index, attacks = table["index"].to_numpy(), np.array(table["attack"].to_pylist(), object)
    clean = index[attacks == "clean"]
    fine = len(np.unique(clean)) == len(clean) > 0 and np.isin(index, clean).all() and not table["broken"].null_count
    if not fine or not np.isfinite(table["eps"].to_numpy()).all():
        raise UsageError(f"{file}: must hold every attacked image once as clean, at finite eps")
    return table


def read_experiment(folder: Path) -> dict[str, Any]:
    """What an experiment's `run.json` says; empty where there is none."""
    return read_record(folder / "run.json") if (folder / "run.json").exists() else {}


def declared_kinds(record: dict[str, Any]) -> dict[str, str]:
    """Objective -> kind of the contrast that the experiment declared, first of all."""
    if "declared" in record:
        return record["declared"]
    products = record.get("experiment", {}).get("products", [])
    return {o: p["contrast"] for p in products for o in p["objectives"] if p.get("contrast")}


def planned_budgets(record: dict[str, Any]) -> dict[tuple[str, str], int]:
    """(method, objective) -> the largest budget that is planned."""
    planned: dict[tuple[str, str], int] = {}
    for product in record.get("experiment", {}).get("products", []):
        for method in product["methods"]:
            for objective in product["objectives"]:
                size = max((*product["updates"], *product["epochs"]), default=0)
                planned[method, objective] = max(size, planned.get((method, objective), 0))
    return planned
