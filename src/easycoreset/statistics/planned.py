"""Contrasts as data: which two rows of a grid are compared, how, and on which seeds."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from easycoreset.errors import UsageError, quote
from easycoreset.options.comparing import CONTROLS

BASELINE = "random"
FULL = "full"
REFERENCES = (BASELINE, *CONTROLS)  # nothing is declared of them by itself
Kind = Literal["matched clean", "equal updates"]
MATCHED: Kind = "matched clean"
EQUAL: Kind = "equal updates"
FORM = "METHOD vs METHOD [at matched clean|at equal updates] [for OBJECTIVE] [keeping FRACTION]"
SPELLING = re.compile(
    r"(?P<method>\S.*?) vs (?P<against>\S.*?)(?: at (?P<kind>matched clean|equal updates))?"
    r"(?: for (?P<objective>\S+))?(?: keeping (?P<fraction>\S+))?"
)


@dataclass(frozen=True, kw_only=True)
class PlannedContrast:
    """Two rows of a grid, `method` against `against`, in one setting.

    Attributes:
        method: its spelling.
        against: of the other row; `full` keeps everything, whatever `fraction` says.
        kind: equal updates (of both rows), or matched clean: both above random's frontier, each at its clean accuracy.
        data: of the setting.
        model: likewise.
        objective: likewise.
        fraction: kept.
        eps: radius.
        size: the largest budget of `method` (at equal updates: that both have), in updates or epochs.
        unit: updates or epochs.
        frontier: random's budgets; empty at equal updates.
        seeds: of both rows.
        cells: names of those that it rests on, so that others of the same spelling (of changed code) do not stand
            in for them; empty for any.
    """

    method: str
    against: str
    kind: Kind
    data: str
    model: str | None
    objective: str
    fraction: float
    eps: float
    size: int
    unit: str = "updates"
    frontier: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    cells: tuple[str, ...] = ()

    @property
    def setting(self) -> tuple[str, str | None, str, float]:
        """Data, model, objective and fraction."""
        return self.data, self.model, self.objective, self.fraction

    @property
    def rows(self) -> tuple[tuple[str, int], ...]:
        """(method, budget) of every row that it rests on."""
        sides = [(self.method, self.size)]
        if self.against != BASELINE or self.kind == EQUAL:
            sides.append((self.against, self.size))
        return (*sides, *((BASELINE, size) for size in self.frontier))

    @property
    def question(self) -> tuple[Any, ...]:
        """What it asks: two of them ask the same where only their seeds or random's budgets differ."""
        return self.method, self.against, self.kind, self.setting, self.eps, self.size, self.unit

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PlannedContrast":
        """Read what `to_json` wrote; what else is there is left out."""
        known: dict[str, Any] = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        known |= {name: tuple(values.get(name, ())) for name in ("frontier", "seeds", "cells")}
        return cls(**known)

    def is_same(self, other: "PlannedContrast") -> bool:
        """Whether another one rests on the same cells; one of a record that named none is taken at its word."""
        if not self.cells or not other.cells:
            return replace(self, cells=()) == replace(other, cells=())
        return self == other


@dataclass(frozen=True)
class SpelledContrast:
    """A contrast as people write it; None stands for every setting, or for the plan's usual kind."""

    method: str
    against: str
    kind: Kind | None = None
    objective: str | None = None
    fraction: float | None = None


def parse_contrast(spec: str) -> SpelledContrast:
    """Read `METHOD vs METHOD [at KIND] [for OBJECTIVE] [keeping FRACTION]`.

    Raises:
        UsageError: it is spelled otherwise, or compares a row with itself.

    >>> parse_contrast("easiest:loss vs easycore at equal updates keeping 0.5")
    SpelledContrast(method='easiest:loss', against='easycore', kind='equal updates', objective=None, fraction=0.5)
    """
    found = SPELLING.fullmatch(spec.strip())
    if found is None:
        raise UsageError(f"a contrast must be {FORM}; got {quote(spec)}")
    values = found.groupdict()
    try:
        fraction = None if values["fraction"] is None else float(values["fraction"])
    except ValueError:
        raise UsageError(f"a contrast must be {FORM}, with a number as FRACTION; got {quote(spec)}") from None
    if fraction is not None and not 0 < fraction <= 1:
        raise UsageError(f"a contrast must be {FORM}, with a FRACTION in (0, 1]; got {quote(spec)}")
    if values["method"] == values["against"]:
        raise UsageError(f"a contrast must compare two rows; got {quote(spec)}, a row with itself")
    return SpelledContrast(values["method"], values["against"], to_kind(values["kind"]), values["objective"], fraction)


def to_kind(text: str | None) -> Kind | None:
    """The kind of that name; None where there is none."""
    return MATCHED if text == MATCHED else EQUAL if text == EQUAL else None
