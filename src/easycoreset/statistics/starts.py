"""The starts recorded for a grid, and which contrasts were declared before anything was evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from easycoreset.statistics.planned_contrasts import PlannedContrast


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


def read_plans(record: Mapping[str, Any]) -> Plans:
    """Sort the contrasts of a record into the declared family and those added later."""
    family: list[PlannedContrast] = []
    later: list[tuple[PlannedContrast, str]] = []
    primary: PlannedContrast | None = None
    for number, start in enumerate(record.get("starts", ())):
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
