"""The record of a plan: its cells, and every start with its command line, what it declared and what was done."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.file_lists import STATE_MARK, FileList
from easycoreset.files import make_folder, write_json
from easycoreset.locks import open_lock
from easycoreset.records import read_record
from easycoreset.run_folders import PLAN_RECORD
from easycoreset.statistics.planned_contrasts import PlannedContrast
from easycoreset.versions import command_line, versions
from easycoreset.workflow.cells import Cell
from easycoreset.workflow.declared import DeclaredContrasts
from easycoreset.workflow.steps import is_done

VOLATILE = ("time", "done", "declared", "again")
FACTS = ("data", "model", "method", "fraction", "objective", "variant", "scoring", "epochs", "updates", "seed")


def describe_start(
    name: str,
    products: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    declared: DeclaredContrasts,
    out: Path,
    earlier_starts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The record of a start.

    Args:
        name: the name of the grid.
        products: its products, as JSON values.
        cells: its cells.
        declared: its contrasts.
        out: the plan's folder.
        earlier_starts: the earlier starts; contrasts that they declared are not listed again.
    """
    declared_before = [
        PlannedContrast.from_json(declaration["contrast"])
        for start in earlier_starts
        for declaration in start["declared"]
    ]
    declarations = [
        {
            "contrast": contrast.to_json(),
            "primary": contrast == declared.primary,
            "evaluated": sum(is_evaluated(cell, out) for cell in declared.cells[contrast]),
        }
        for contrast in declared.contrasts
        if not any(contrast.uses_same_cells(other) for other in declared_before)
    ]
    row_names = {f"{cell.method} ({cell.objective}, {cell.fraction:g} kept)": None for cell in cells}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command_line": command_line(),
        "versions": versions(),
        "name": name,
        "products": list(products),
        "cells": len(cells),
        "done": sum(is_evaluated(cell, out) for cell in cells),
        "seeds": sorted({cell.seed for cell in cells}),
        "rows": list(row_names),
        "declared": declarations,
    }


def is_evaluated(cell: Cell, out: Path) -> bool:
    """Whether an evaluation of a cell is done that contrasts may use."""
    return any(is_done(step, out) for step, strong in cell.evaluations if not strong)


def add_start(record: Mapping[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The starts of a record, and a new one; if it repeats the last one's plan and versions, it is only counted."""
    starts: list[dict[str, Any]] = list(record.get("starts", ()))
    if starts and not new["declared"]:
        last = {key: value for key, value in starts[-1].items() if key not in VOLATILE}
        if last == {key: value for key, value in new.items() if key not in VOLATILE}:
            again = {"times": starts[-1].get("again", {}).get("times", 0) + 1, "time": new["time"]}
            return [*starts[:-1], starts[-1] | {"again": again}]
    return [*starts, new]


def merge_records(record: Mapping[str, Any], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells of all starts, first those of this start.

    The evaluations of all starts are kept; if two have the same attack and eps, the later one is kept. A cell of an
    earlier start is superseded if this start has a cell with equal `FACTS` but another name, because the data or the
    code changed. It stays on record for the contrasts that were declared on it, but is in no table.
    """
    earlier = {cell["name"]: cell for cell in record.get("cells", ())}
    merged = {cell.name: cell.to_json() for cell in cells}
    current = {tuple(cell[fact] for fact in FACTS) for cell in merged.values()}
    for name, cell in earlier.items():
        if name in merged:
            entries = [*cell["evaluations"], *merged[name]["evaluations"]]
            by_attack = {(e["attack"], e["eps"], e["strong"]): e for e in entries}
            merged[name]["evaluations"] = list(by_attack.values())
            beyond = [*cell.get("beyond", ()), *merged[name]["beyond"]]
            merged[name]["beyond"] = list({entry["key"]: entry for entry in beyond}.values())
        else:
            superseded = tuple(cell[fact] for fact in FACTS) in current or cell["superseded"]
            merged[name] = cell | {"superseded": superseded}
    return list(merged.values())


def read_earlier_starts(out: Path, command: str) -> dict[str, Any]:
    """A record with the starts of a folder that is about to be overwritten; empty if nothing was evaluated there."""
    try:
        record = read_record(out / PLAN_RECORD)
    except UsageError:
        return {}
    if record.get("command") != command or not any((out / "steps").glob("evaluate-*")):
        return {}
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"starts": [start | {"overwritten": now} for start in record.get("starts", ())]}


def update_record(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read, change and write the record of a folder that several processes share, one process at a time."""
    file = out / "locks" / "record"
    with FileList(out, PLAN_RECORD).active() as file_list:
        file_list.require_no_links(file)
        make_folder(file.parent)
        lock = open_lock(file, wait=False)
        try:
            lock.wait()
            if lock.created:
                file_list.add(file, STATE_MARK)
            record = change(read_record(out / PLAN_RECORD))
            write_json(out / PLAN_RECORD, record)
            return record
        finally:
            os.close(lock.descriptor)


def completion_record(**summary: Any) -> dict[str, Any]:
    """The entries added to the record of a finished plan."""
    return {"status": "done", "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "summary": summary}
