"""How a comparison was run: its starts, what each start added, and what was declared before evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.documents import DataTable, Section
from easycoreset.statistics import PlannedContrast
from easycoreset.statistics.settings import describe_share

DECLARED = (
    "Declared contrasts are those that the first start named, with their seeds, before any cell that they use was "
    "evaluated: one family of fixed size. What was added later (methods, contrasts, seeds) always stays exploratory in "
    "this folder."
)


def describe_start_history(record: Mapping[str, Any]) -> Section:
    """The section "How this was run"."""
    starts: Sequence[Mapping[str, Any]] = record.get("starts", ())
    if not starts:
        return Section("How this was run", ["No record of its starts exists, so no contrast counts as declared."])
    table_rows = [_start_row(number, start) for number, start in enumerate(starts)]
    columns = [
        "start",
        "time",
        "commit",
        "version",
        "Python",
        "torch",
        "cells planned",
        "cells done before",
        "declared",
        "added",
        "command line",
    ]
    return Section(
        "How this was run",
        [DECLARED],
        bullets=_describe_additions(starts),
        tables=[DataTable("starts", columns, table_rows)],
    )


def _start_row(number: int, start: Mapping[str, Any]) -> list[Any]:
    versions = start["versions"]
    repeats = start.get("again")
    when = start["time"] + (f", repeated {repeats['times']} times until {repeats['time']}" if repeats else "")
    when += f", overwritten {start['overwritten']}" if "overwritten" in start else ""
    names = ("commit", "easycoreset", "python", "torch")
    declared = len(start["declared"])
    return [
        number + 1,
        when,
        *(versions.get(name, "unknown") for name in names),
        start["cells"],
        start["done"],
        declared if number == 0 else 0,
        0 if number == 0 else declared,
        start["command_line"] or "from Python",
    ]


def _describe_additions(starts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each later start that added something."""
    sentences: list[str] = []
    for number, start in enumerate(starts):
        if number == 0:
            continue
        earlier_rows = {row for earlier in starts[:number] for row in earlier["rows"]}
        rows = [row for row in start["rows"] if row not in earlier_rows] if earlier_rows else []
        known_seeds = {seed for earlier in starts[:number] for seed in earlier["seeds"]}
        seeds = [str(seed) for seed in start["seeds"] if seed not in known_seeds]
        parts = [f"the rows {', '.join(rows)}"] if rows else []
        parts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"] if seeds else []
        contrasts = [_contrast_name(PlannedContrast.from_json(line["contrast"])) for line in start["declared"]]
        parts += [f"the contrasts {', '.join(contrasts)}"] if contrasts else []
        if parts:
            sentences.append(
                f"Start {number + 1} ({start['time'][:10]}, {start['done']} cells were done) added "
                f"{'; '.join(parts)}: exploratory."
            )
    return sentences


def _contrast_name(plan: PlannedContrast) -> str:
    where = [plan.objective, describe_share(plan.fraction), plan.variant, plan.scoring]
    return (
        f"{plan.method} against {plan.against} ({plan.kind}, {', '.join(filter(None, where))}, {len(plan.seeds)} seeds)"
    )
