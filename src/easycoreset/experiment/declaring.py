"""What an experiment declares of its cells: contrasts that are spelled, resolved to the rows that it has."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from easycoreset.data import name_data
from easycoreset.errors import UsageError, nearest, quote
from easycoreset.experiment.cells import FULL, Cell, Experiment
from easycoreset.objectives import load_objective
from easycoreset.selection import load_selector
from easycoreset.statistics.planned import (
    BASELINE,
    REFERENCES,
    Kind,
    PlannedContrast,
    SpelledContrast,
    parse_contrast,
)

Setting = tuple[str, str | None, str, float]  # data, model, objective, fraction
Rows = dict[tuple[str, int], dict[int, Cell]]  # (method, budget) -> seed -> cell


@dataclasses.dataclass(frozen=True)
class Declared:
    """The contrasts that a plan declares, each with the cells that it rests on.

    Attributes:
        contrasts: each once.
        cells: of each of them.
        primary: the one that is tested alone; None where all are one family.
    """

    contrasts: tuple[PlannedContrast, ...]
    cells: dict[PlannedContrast, tuple[Cell, ...]]
    primary: PlannedContrast | None


def declare(experiment: Experiment) -> Declared:
    """Resolve what an experiment declares: the contrasts of its products, and its own.

    Raises:
        UsageError: a contrast of a row with itself, of rows that are not there, or of rows in different settings; a
            primary one that is several.
    """
    grid = index_rows(experiment)
    found = [
        contrast for product in experiment.products for contrast in _usual(product.contrast, product.cells(0), grid)
    ]
    for spec in experiment.declares:
        found += resolve(spec, grid)
    first: PlannedContrast | None = None
    if spec := experiment.primary:
        several = resolve(spec, grid)
        if len(several) > 1:
            settings = ", ".join(f"for {c.objective} keeping {c.fraction:g}" for c in several)
            raise UsageError(f"primary must be one contrast; {quote(spec)} is {len(several)}: say which ({settings})")
        first = several[0]
        found.insert(0, first)
    asked = dict[tuple[object, ...], PlannedContrast]()
    for contrast in found:  # A against B and B against A are one question
        sides = frozenset((contrast.method, contrast.against))
        asked.setdefault((sides, *contrast.question[2:]), contrast)
    cells = {contrast: tuple(cells_of(contrast, grid[contrast.setting])) for contrast in asked.values()}
    named = {c: dataclasses.replace(c, cells=tuple(cell.name for cell in own)) for c, own in cells.items()}
    primary = None if first is None else named[first]
    return Declared(tuple(named.values()), {named[c]: own for c, own in cells.items()}, primary)


def index_rows(experiment: Experiment) -> dict[Setting, Rows]:
    """The rows of an experiment by their settings; rows that keep everything stand in every setting of theirs."""
    cells = [_readable(cell) for cell in experiment.cells()]
    grid: dict[Setting, Rows] = {}
    for cell in cells:
        if cell.method != FULL:
            _add(grid, (cell.data, cell.model, cell.objective, cell.fraction), cell)
    for cell in cells:
        if cell.method == FULL:
            settings = [s for s in grid if s[:3] == (cell.data, cell.model, cell.objective)]
            for setting in settings or [(cell.data, cell.model, cell.objective, 1.0)]:
                _add(grid, setting, cell)
    return grid


def resolve(spec: str, grid: dict[Setting, Rows]) -> list[PlannedContrast]:
    """A contrast in every setting that holds both of its rows.

    Raises:
        UsageError: a row is unknown, or there is no setting that holds both.
    """
    spelled = parse_contrast(spec)
    spelled = dataclasses.replace(
        spelled,
        method=_known(spelled.method, grid, spec),
        against=_known(spelled.against, grid, spec),
        objective=None if spelled.objective is None else load_objective(spelled.objective)[0],
    )
    if spelled.method == spelled.against:
        raise UsageError(f"a contrast must compare two rows; got {quote(spec)}, a row with itself")
    found = [c for setting, rows in grid.items() if (c := _plan(spelled, setting, rows)) is not None]
    if not found:
        raise UsageError(
            f"contrast {quote(spec)}: no setting (data, model, objective, fraction) holds both rows "
            "at a common budget (at matched clean: and several budgets of random)"
        )
    return found


def cells_of(contrast: PlannedContrast, rows: Rows) -> Iterable[Cell]:
    """The cells that a contrast rests on."""
    return (rows[key][seed] for key in dict.fromkeys(contrast.rows) for seed in contrast.seeds)


def _usual(kind: Kind | None, cells: Sequence[Cell], grid: dict[Setting, Rows]) -> list[PlannedContrast]:
    """Each method of a product against random, but for the controls."""
    found = list[PlannedContrast]()
    for cell in map(_readable, cells if kind else ()):
        setting = (cell.data, cell.model, cell.objective, cell.fraction)
        if cell.method not in REFERENCES and (BASELINE in (method for method, _ in grid[setting])):
            planned = _plan(SpelledContrast(cell.method, BASELINE, kind), setting, grid[setting])
            found += [planned] if planned is not None else []
    return list(dict.fromkeys(found))


def _plan(spelled: SpelledContrast, setting: Setting, rows: Rows) -> PlannedContrast | None:
    """A contrast in one setting, at the largest budget; None where the setting lacks a row."""
    data, model, objective, fraction = setting
    if spelled.objective not in (None, objective) or spelled.fraction not in (None, fraction):
        return None
    sizes = {
        name: sorted(size for method, size in rows if method == name)
        for name in (spelled.method, spelled.against, BASELINE)
    }
    several = len(sizes[BASELINE]) > 1 and FULL not in (spelled.method, spelled.against)
    kind: Kind = spelled.kind or ("matched clean" if several else "equal updates")
    common = set(sizes[spelled.method]) & set(sizes[spelled.against])
    if kind == "matched clean" and spelled.against == BASELINE:
        common = set(sizes[spelled.method])
    if not common or not sizes[spelled.against] or (kind == "matched clean" and len(sizes[BASELINE]) < 2):
        return None
    size = max(common)
    frontier = tuple(sizes[BASELINE]) if kind == "matched clean" else ()
    cell = next(iter(rows[spelled.method, size].values()))
    planned = PlannedContrast(
        method=spelled.method,
        against=spelled.against,
        kind=kind,
        data=data,
        model=model,
        objective=objective,
        fraction=fraction,
        eps=cell.main,
        size=size,
        unit="epochs" if cell.updates is None else "updates",
        frontier=frontier,
    )
    seeds = set.intersection(*(set(rows[key]) for key in planned.rows))
    return dataclasses.replace(planned, seeds=tuple(sorted(seeds)))


def _known(method: str, grid: dict[Setting, Rows], spec: str) -> str:
    """The one spelling of a row's method."""
    there = dict.fromkeys(name for rows in grid.values() for name, _ in rows)
    plain = method in there or method == FULL or method.startswith("file:")
    name = method if plain else load_selector(method)[0]
    if name not in there:
        raise UsageError(f"contrast {quote(spec)}: the grid has no row {quote(method)}: {nearest(name, there)}")
    return name


def _readable(cell: Cell) -> Cell:
    """A cell whose data set is named as in tables."""
    return dataclasses.replace(cell, data=name_data(cell.data))


def _add(grid: dict[Setting, Rows], setting: Setting, cell: Cell) -> None:
    size: Any = cell.epochs if cell.updates is None else cell.updates
    grid.setdefault(setting, {}).setdefault((cell.method, size), {})[cell.seed] = cell
