"""The log of a grid's starts: when and how each was made, its declared contrasts, and how many cells were done."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from easycoreset.errors import UsageError
from easycoreset.experiment.cells import Experiment
from easycoreset.experiment.declared_contrasts import DeclaredContrasts
from easycoreset.experiment.results import is_done
from easycoreset.file_lists import STATE_MARK, FileList
from easycoreset.files import make_folder, write_json
from easycoreset.locks import open_lock
from easycoreset.records import read_record
from easycoreset.run_folders import RUN_RECORD
from easycoreset.statistics.planned_contrasts import PlannedContrast
from easycoreset.statistics.starts import list_starts
from easycoreset.versions import command_line, versions


def describe_start(
    experiment: Experiment, declared: DeclaredContrasts, out: Path, earlier_starts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The record of a start.

    Args:
        experiment: the experiment that is started.
        declared: the contrasts of the experiment.
        out: the folder of the experiment.
        earlier_starts: the earlier starts; contrasts that they declared are not listed again.
    """
    declared_before = [
        PlannedContrast.from_json(declaration["contrast"])
        for start in earlier_starts
        for declaration in start["declared"]
    ]
    cells = experiment.cells()
    declarations = [
        {
            "contrast": contrast.to_json(),
            "primary": contrast == declared.primary,
            "evaluated": sum(is_done(out, cell) for cell in declared.cells[contrast]),
        }
        for contrast in declared.contrasts
        if not any(contrast.uses_same_cells(other) for other in declared_before)
    ]
    row_names = {f"{cell.method} ({cell.objective}, {cell.fraction:g} kept)": None for cell in cells}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command_line": command_line(),
        "versions": versions(),
        "name": experiment.name,
        "cells": len(cells),
        "done": sum(is_done(out, cell) for cell in cells),
        "seeds": 1 + max(cell.seed for cell in cells),
        "rows": list(row_names),
        "declared": declarations,
    }


def add_start(
    record: dict[str, Any], experiment: Experiment, declared: DeclaredContrasts, out: Path
) -> list[dict[str, Any]]:
    """The starts of a record, and a new one; if it repeats the last one's plan and versions, it is only counted."""
    starts = list_starts(record)
    new = describe_start(experiment, declared, out, starts)
    volatile = ("time", "done")
    if starts and not new["declared"]:
        last = {key: value for key, value in starts[-1].items() if key not in (*volatile, "declared", "again")}
        if last == {key: value for key, value in new.items() if key not in (*volatile, "declared")}:
            again = {"times": starts[-1].get("again", {}).get("times", 0) + 1, "time": new["time"]}
            return [*starts[:-1], starts[-1] | {"again": again}]
    return [*starts, new]


def read_earlier_starts(out: Path, experiment: Experiment) -> dict[str, Any]:
    """A record with the starts of a folder that the same experiment is about to overwrite; empty if no cell is done."""
    try:
        record = read_record(out / RUN_RECORD)
    except UsageError:
        return {}
    if not any((out / "cells").glob("[!.]*")):
        return {}  # no results exist yet
    if record.get("options") != json.loads(json.dumps(experiment.identity())):
        return {}
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {"starts": [start | {"overwritten": now} for start in list_starts(record)]}


def update_record(out: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Read, change and write the record of a folder that several processes share, one process at a time."""
    file = out / "locks" / "record"
    with FileList(out, RUN_RECORD).active() as file_list:
        file_list.require_no_links(file)
        make_folder(file.parent)
        lock = open_lock(file, wait=False)
        try:
            lock.wait()
            if lock.created:
                file_list.add(file, STATE_MARK)
            record = change(read_record(out / RUN_RECORD))
            write_json(out / RUN_RECORD, record)
            return record
        finally:
            os.close(lock.descriptor)


def completion_record(**summary: Any) -> dict[str, Any]:
    """The entries added to the record of a finished grid."""
    return {"status": "done", "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "summary": summary}
