"""Declared contrasts: their specifications, resolved to the rows and cells of a grid."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from easycoreset.dynamic import canonical_method
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.objectives import load_objective
from easycoreset.options import CompareOptions
from easycoreset.options.comparing import FULL
from easycoreset.statistics.planned_contrasts import (
    BASELINE,
    CONTROL_METHODS,
    EQUAL_UPDATES,
    MATCHED_CLEAN,
    ContrastSpec,
    Kind,
    PlannedContrast,
    parse_contrast,
)
from easycoreset.statistics.settings import Setting, fits_all_fractions, group_by_setting
from easycoreset.workflow.cells import Cell
from easycoreset.workflow.grids import Grid, merge_cells

Rows = dict[tuple[str, int], dict[int, Cell]]  # (method, budget) -> seed -> cell


@dataclasses.dataclass(frozen=True)
class DeclaredContrasts:
    """The contrasts that a plan declares, and the cells that each of them uses.

    Attributes:
        contrasts: each contrast once.
        cells: the cells of each contrast.
        primary: the contrast that is tested first, alone; None if all contrasts are one family.
    """

    contrasts: tuple[PlannedContrast, ...]
    cells: dict[PlannedContrast, tuple[Cell, ...]]
    primary: PlannedContrast | None


def resolve_contrasts(grid: Grid, by_product: Sequence[Sequence[Cell]]) -> DeclaredContrasts:
    """Resolve the contrasts that a grid declares: by its products, by `declares` and by `primary`.

    Args:
        grid: the grid.
        by_product: the cells of each of its products.

    Raises:
        UsageError: a contrast compares a row with itself, unknown rows, or rows in different settings; or the
            primary one matches several settings.
    """
    rows = rows_by_setting(merge_cells(by_product))
    contrasts = [
        contrast
        for product, cells in zip(grid.products, by_product, strict=True)
        for contrast in _against_random(_kind_of(product), cells, rows)
    ]
    for spec in grid.declares:
        contrasts += resolve_contrast(spec, rows)
    primary_match: PlannedContrast | None = None
    if spec := grid.primary:
        matches = list({_identity(match, rows): match for match in reversed(resolve_contrast(spec, rows))}.values())
        if len(matches) > 1:
            settings = ", ".join(f"for {c.objective} keeping {c.fraction:g}" for c in matches)
            raise UsageError(
                f"primary must be one contrast; {quote(spec)} matches {len(matches)} ({settings}); name one"
            )
        primary_match = matches[0]
        contrasts.insert(0, primary_match)
    distinct = dict[tuple[object, ...], PlannedContrast]()
    for contrast in contrasts:
        distinct.setdefault(_identity(contrast, rows), contrast)
    cells = {contrast: tuple(cells_of(contrast, rows[contrast.setting])) for contrast in distinct.values()}
    with_names = {c: dataclasses.replace(c, cells=tuple(cell.name for cell in used)) for c, used in cells.items()}
    primary = None if primary_match is None else with_names[primary_match]
    cells_used = {with_names[c]: used for c, used in cells.items()}
    return DeclaredContrasts(tuple(with_names.values()), cells_used, primary)


def _identity(contrast: PlannedContrast, rows: dict[Setting, Rows]) -> tuple[object, ...]:
    """A key that is equal for equal contrasts: A against B and B against A are the same contrast.

    Contrasts at different fractions are also the same if all their rows fit all fractions.
    """
    used = cells_of(contrast, rows[contrast.setting])
    fits_all = all(fits_all_fractions(cell.method, cell.fraction) for cell in used)
    setting = contrast.setting.pooled if fits_all else contrast.setting
    sides = frozenset((contrast.method, contrast.against))
    return sides, contrast.kind, setting, contrast.eps, contrast.size, contrast.unit


def rows_by_setting(cells: Sequence[Cell]) -> dict[Setting, Rows]:
    """The rows of a grid by setting."""
    grid: dict[Setting, Rows] = {}
    for setting, setting_cells in group_by_setting(cells, lambda cell: cell.setting, lambda cell: cell.method).items():
        rows = grid.setdefault(setting, {})
        for cell in setting_cells:
            budget: Any = cell.epochs if cell.updates is None else cell.updates
            rows.setdefault((cell.method, budget), {})[cell.seed] = cell
    return grid


def resolve_contrast(spec: str, grid: dict[Setting, Rows]) -> list[PlannedContrast]:
    """Resolve a contrast in every setting that has both of its rows.

    Raises:
        UsageError: a row is unknown, or no setting has both rows.
    """
    parsed = parse_contrast(spec)
    parsed = dataclasses.replace(
        parsed,
        method=_row_name(parsed.method, grid, spec),
        against=_row_name(parsed.against, grid, spec),
        objective=None if parsed.objective is None else load_objective(parsed.objective)[0],
    )
    if parsed.method == parsed.against:
        raise UsageError(f"a contrast must compare two rows; got {quote(spec)}, a row with itself")
    contrasts = [c for setting, rows in grid.items() if (c := _plan(parsed, setting, rows)) is not None]
    if not contrasts:
        raise UsageError(
            f"contrast {quote(spec)}: no setting (data, model, objective, fraction) holds both rows "
            "at a common budget; at matched clean, it must also hold several budgets of random"
        )
    return contrasts


def cells_of(contrast: PlannedContrast, rows: Rows) -> Iterable[Cell]:
    """The cells that a contrast uses."""
    return (rows[key][seed] for key in dict.fromkeys(contrast.rows) for seed in contrast.seeds)


def _against_random(kind: Kind | None, cells: Sequence[Cell], grid: dict[Setting, Rows]) -> list[PlannedContrast]:
    """The contrasts of each method of a product, except the controls, with random."""
    contrasts = list[PlannedContrast]()
    for cell in cells if kind else ():
        for setting, rows in grid.items() if cell.method not in CONTROL_METHODS else ():
            if setting.holds(cell.setting, cell.method) and BASELINE in (method for method, _ in rows):
                planned = _plan(ContrastSpec(cell.method, BASELINE, kind), setting, rows)
                contrasts += [planned] if planned is not None else []
    return list(dict.fromkeys(contrasts))


def _kind_of(product: CompareOptions) -> Kind | None:
    """The kind of the contrast with random that a product declares for each of its methods."""
    if product.contrast == "auto":
        return MATCHED_CLEAN if len(product.epochs or product.updates) > 1 else EQUAL_UPDATES
    return None if product.contrast == "none" else product.contrast


def _plan(parsed: ContrastSpec, setting: Setting, rows: Rows) -> PlannedContrast | None:
    """A contrast in one setting, at the largest budget; None if the setting lacks a row."""
    if parsed.objective not in (None, setting.objective) or parsed.fraction not in (None, setting.fraction):
        return None
    budgets = {
        name: sorted(budget for method, budget in rows if method == name)
        for name in (parsed.method, parsed.against, BASELINE)
    }
    has_frontier = len(budgets[BASELINE]) > 1 and FULL not in (parsed.method, parsed.against)
    kind: Kind = parsed.kind or ("matched clean" if has_frontier else "equal updates")
    common_budgets = set(budgets[parsed.method]) & set(budgets[parsed.against])
    if kind == "matched clean" and parsed.against == BASELINE:
        common_budgets = set(budgets[parsed.method])  # random's frontier needs no row at the same budget
    if not common_budgets or not budgets[parsed.against] or (kind == "matched clean" and len(budgets[BASELINE]) < 2):
        return None
    budget = max(common_budgets)
    frontier = tuple(budgets[BASELINE]) if kind == "matched clean" else ()
    cell = next(iter(rows[parsed.method, budget].values()))
    planned = PlannedContrast(
        method=parsed.method,
        against=parsed.against,
        kind=kind,
        **setting._asdict(),
        eps=cell.main_eps,
        size=budget,
        unit="epochs" if cell.updates is None else "updates",
        frontier=frontier,
    )
    seeds = set.intersection(*(set(rows[key]) for key in planned.rows))
    return dataclasses.replace(planned, seeds=tuple(sorted(seeds)))


def _row_name(method: str, grid: dict[Setting, Rows], spec: str) -> str:
    """The canonical name of a row's method."""
    row_names = dict.fromkeys(name for rows in grid.values() for name, _ in rows)
    is_canonical = method in row_names or method == FULL or method.startswith("file:")
    name = method if is_canonical else canonical_method(method)
    if name not in row_names:
        raise UsageError(
            f"contrast {quote(spec)}: the grid has no row {quote(method)}: {suggest_name(name, row_names)}"
        )
    return name
