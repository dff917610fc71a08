"""Planned contrasts as data: which two rows of a grid are compared, how, and on which seeds."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from easycoreset.errors import UsageError, quote
from easycoreset.options.comparing import CONTROLS
from easycoreset.statistics.settings import Setting

BASELINE = "random"
CONTROL_METHODS = (BASELINE, *CONTROLS)  # they are compared with random only where `--declare` names them
Kind = Literal["matched clean", "equal updates"]
MATCHED_CLEAN: Kind = "matched clean"
EQUAL_UPDATES: Kind = "equal updates"
SYNTAX = "METHOD vs METHOD [at matched clean|at equal updates] [for OBJECTIVE] [keeping FRACTION]"
PATTERN = re.compile(
    r"(?P<method>\S.*?) vs (?P<against>\S.*?)(?: at (?P<kind>matched clean|equal updates))?"
    r"(?: for (?P<objective>\S+))?(?: keeping (?P<fraction>\S+))?"
)


@dataclass(frozen=True, kw_only=True)
class PlannedContrast:
    """A comparison of two rows of a grid, `method` against `against`, in one setting.

    Attributes:
        method: spelling of the method.
        against: spelling of the other method; `full` keeps everything, whatever `fraction` is.
        kind: equal updates compares two rows of the same budget; matched clean compares how far each row's robust
            accuracy lies above random's frontier at the row's clean accuracy.
        data: data set of the setting.
        model: model of the setting.
        objective: training objective of the setting.
        fraction: fraction of samples that is kept.
        variant: options of training and evaluation in the setting that are off their defaults, as text.
        scoring: options of scoring and choosing that are off their defaults, as text.
        eps: radius of the attack.
        size: the largest budget of `method` (at equal updates: the largest that both have), in `unit`.
        unit: updates or epochs.
        frontier: random's budgets; empty at equal updates.
        seeds: seeds of both rows.
        cells: names of the cells that it uses, so that cells of the same options made by changed code do not
            replace them; empty for any.
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
    variant: str = ""
    scoring: str = ""

    @property
    def setting(self) -> Setting:
        """What both rows share."""
        return Setting(self.data, self.model, self.objective, self.fraction, self.variant, self.scoring)

    @property
    def rows(self) -> tuple[tuple[str, int], ...]:
        """(method, budget) of every row that it uses."""
        compared = [(self.method, self.size)]
        if self.against != BASELINE or self.kind == EQUAL_UPDATES:
            compared.append((self.against, self.size))
        return (*compared, *((BASELINE, size) for size in self.frontier))

    @property
    def question(self) -> tuple[Any, ...]:
        """The comparison without its seeds and random's budgets."""
        return self.method, self.against, self.kind, self.setting, self.eps, self.size, self.unit

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PlannedContrast":
        """Read what `to_json` wrote; unknown keys are ignored."""
        fields: dict[str, Any] = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        fields |= {name: tuple(values.get(name, ())) for name in ("frontier", "seeds", "cells")}
        return cls(**fields)

    def uses_same_cells(self, other: "PlannedContrast") -> bool:
        """Whether another contrast uses the same cells; where either names none, only the other fields are compared."""
        if not self.cells or not other.cells:
            return replace(self, cells=()) == replace(other, cells=())
        return self == other


@dataclass(frozen=True)
class ContrastSpec:
    """A contrast as users write it.

    None as objective or fraction means every one of the grid; None as kind means the plan's default kind.
    """

    method: str
    against: str
    kind: Kind | None = None
    objective: str | None = None
    fraction: float | None = None


def parse_contrast(spec: str) -> ContrastSpec:
    """Read `METHOD vs METHOD [at KIND] [for OBJECTIVE] [keeping FRACTION]`.

    Raises:
        UsageError: it has another form, or compares a row with itself.

    >>> parse_contrast("easiest:loss vs easycore at equal updates keeping 0.5")
    ContrastSpec(method='easiest:loss', against='easycore', kind='equal updates', objective=None, fraction=0.5)
    """
    match = PATTERN.fullmatch(spec.strip())
    if match is None:
        raise UsageError(f"a contrast must be {SYNTAX}; got {quote(spec)}")
    parts = match.groupdict()
    try:
        fraction = None if parts["fraction"] is None else float(parts["fraction"])
    except ValueError:
        raise UsageError(f"a contrast must be {SYNTAX}, with a number as FRACTION; got {quote(spec)}") from None
    if fraction is not None and not 0 < fraction <= 1:
        raise UsageError(f"a contrast must be {SYNTAX}, with a FRACTION in (0, 1]; got {quote(spec)}")
    if parts["method"] == parts["against"]:
        raise UsageError(f"a contrast must compare two rows; got {quote(spec)}, a row with itself")
    return ContrastSpec(parts["method"], parts["against"], parse_kind(parts["kind"]), parts["objective"], fraction)


def parse_kind(text: str | None) -> Kind | None:
    """The kind with this name; None for any other text."""
    return MATCHED_CLEAN if text == MATCHED_CLEAN else EQUAL_UPDATES if text == EQUAL_UPDATES else None
