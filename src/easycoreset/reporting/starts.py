"""How a comparison was run: its starts, what each added, and what of it was declared before anything was evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.console import say_share
from easycoreset.reporting.page import Grid, Section
from easycoreset.statistics import PlannedContrast, list_starts

DECLARED = (
    "Declared is what the first start named, with its seeds, before a cell that it rests on was evaluated: one family, "
    "whose size stays. What came later (methods, contrasts, seeds) is exploratory in this folder for ever."
)
FIRST_VERSION = (
    "The record is of version 0.1, which kept its last start alone: what is declared is taken from that, and what was "
    "added before it cannot be told from it."
)


def describe_starts(record: Mapping[str, Any]) -> Section:
    """The section "How this was run"."""
    starts = list_starts(record)
    if not starts:
        return Section("How this was run", ["There is no record of its starts: nothing counts as declared."])
    rows = [_row(number, start) for number, start in enumerate(starts)]
    columns = [
        "start",
        "time",
        "commit",
        "version",
        "Python",
        "torch",
        "cells planned",
        "done by then",
        "declared",
        "added",
        "command line",
    ]
    texts = [DECLARED, *([FIRST_VERSION] if any("version" in start for start in starts) else [])]
    return Section("How this was run", texts, points=list(_added(starts)), tables=[Grid("starts", columns, rows)])


def _row(number: int, start: Mapping[str, Any]) -> list[Any]:
    versions = start["versions"]
    again = start.get("again")
    when = start["time"] + (f", again {again['times']} times until {again['time']}" if again else "")
    when += f", overwritten {start['overwritten']}" if "overwritten" in start else ""
    names = ("commit", "easycoreset", "python", "torch")
    new = len(start["declared"])
    return [
        number + 1,
        when,
        *(versions.get(name, "not known") for name in names),
        start["cells"],
        start["done"],
        new if number == 0 else 0,
        0 if number == 0 else new,
        start["command_line"] or "from Python",
    ]


def _added(starts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each later start that added something."""
    said: list[str] = []
    for number, start in enumerate(starts):
        if number == 0:
            continue
        before = {row for earlier in starts[:number] for row in earlier["rows"]}
        rows = [row for row in start["rows"] if row not in before] if before else []
        seeds = max(earlier["seeds"] for earlier in starts[:number])
        parts = [f"the rows {', '.join(rows)}"] if rows else []
        parts += [f"seeds {seeds} to {start['seeds'] - 1}"] if start["seeds"] > seeds else []
        named = [_name(PlannedContrast.from_json(line["contrast"])) for line in start["declared"]]
        parts += [f"the contrasts {', '.join(named)}"] if named else []
        if parts:
            said.append(
                f"Start {number + 1} ({start['time'][:10]}, {start['done']} cells were done) added "
                f"{'; '.join(parts)}: exploratory."
            )
    return said


def _name(plan: PlannedContrast) -> str:
    return (
        f"{plan.method} against {plan.against} ({plan.kind}, {plan.objective}, {say_share(plan.fraction)} kept, "
        f"{len(plan.seeds)} seeds)"
    )
