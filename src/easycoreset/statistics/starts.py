"""The starts recorded for a grid, and which contrasts were declared before anything was evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from easycoreset.data_specs import data_name
from easycoreset.statistics.planned_contrasts import (
    BASELINE,
    CONTROL_METHODS,
    MATCHED_CLEAN,
    PlannedContrast,
    parse_kind,
)

MAX_SEEDS = 10_000  # in a record
FIRST_VERSION = "0.1"  # it recorded only the last start


@dataclass(frozen=True, kw_only=True)
class Plans:
    """The contrasts in a grid's record.

    Attributes:
        family: declared by the first start, before any cell that they use was evaluated.
        primary: the one of the family that is tested alone; None if there is none.
        later: contrasts that were added later, each with a note: when, and why it is exploratory.
    """

    family: tuple[PlannedContrast, ...] = ()
    primary: PlannedContrast | None = None
    later: tuple[tuple[PlannedContrast, str], ...] = ()


def list_starts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The starts of a grid's record, oldest first; a record of version 0.1 has only its last start."""
    if "starts" in record:
        return list(record["starts"])
    if "experiment" not in record:
        return []
    declared = _declared_in_first_version(record)
    return [
        {
            "time": record.get("started", ""),
            "command_line": record.get("command_line"),
            "versions": record.get("versions", {}),
            "name": record["experiment"].get("name", ""),
            "cells": record.get("planned", 0),
            "done": 0,
            "seeds": max((p["seeds"] for p in _products(record)), default=0),
            "rows": [],
            "declared": [{"contrast": c.to_json(), "primary": False, "evaluated": 0} for c in declared],
            "version": FIRST_VERSION,
        }
    ]


def read_plans(record: Mapping[str, Any]) -> Plans:
    """Sort the contrasts of a record into the declared family and those added later."""
    family: list[PlannedContrast] = []
    later: list[tuple[PlannedContrast, str]] = []
    primary: PlannedContrast | None = None
    for number, start in enumerate(list_starts(record)):
        for line in start["declared"]:
            contrast = PlannedContrast.from_json(line["contrast"])
            if number == 0 and not line["evaluated"]:
                family.append(contrast)
                primary = contrast if line["primary"] else primary
            elif number == 0:
                reason = (
                    f"{line['evaluated']} of its cells were evaluated before it was declared, on {start_date(start)}"
                )
                later.append((contrast, reason))
            else:
                later.append((contrast, f"added on {start_date(start)}"))
    return Plans(family=tuple(family), primary=primary, later=tuple(later))


def start_date(start: Mapping[str, Any]) -> str:
    """The date of a start, as YYYY-MM-DD."""
    return str(start["time"])[:10]


def _declared_in_first_version(record: Mapping[str, Any]) -> list[PlannedContrast]:
    """The contrasts of a record of version 0.1: each method against random, at the main eps and its largest budget."""
    products = _products(record)
    declared: Mapping[str, str] = record.get("declared", {})
    contrasts: list[PlannedContrast] = []
    for product in products:
        base = product["base"]
        eps = base.get("main_eps") if base.get("main_eps") is not None else base["eps"][0]
        for objective in product["objectives"]:
            kind = parse_kind(declared.get(objective, product.get("contrast")))
            if not product["updates"] and not product["epochs"]:
                continue
            random_products = [p for p in products if BASELINE in p["methods"] and objective in p["objectives"]]
            if kind is None or not random_products:
                continue
            for method in product["methods"]:
                for fraction in product["fractions"] if method not in CONTROL_METHODS else ():
                    unit = "updates" if product["updates"] else "epochs"
                    budgets = sorted({size for p in random_products for size in p[unit]})
                    contrasts.append(
                        PlannedContrast(
                            method=method,
                            against=BASELINE,
                            kind=kind,
                            data=data_name(base["data"]),
                            model=base.get("model"),
                            objective=objective,
                            fraction=fraction,
                            eps=eps,
                            size=max(product[unit]),
                            unit=unit,
                            frontier=tuple(budgets) if kind == MATCHED_CLEAN else (),
                            seeds=tuple(
                                range(min(MAX_SEEDS, product["seeds"], *(p["seeds"] for p in random_products)))
                            ),
                        )
                    )
    unique: dict[tuple[Any, ...], PlannedContrast] = {}
    for contrast in contrasts:  # of the same comparison keep the one with the larger budget, then with more seeds
        key = contrast.question[:5]
        if key not in unique or (contrast.size, len(contrast.seeds)) > (unique[key].size, len(unique[key].seeds)):
            unique[key] = contrast
    return list(unique.values())


def _products(record: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return record["experiment"].get("products", [])
