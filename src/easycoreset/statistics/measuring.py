"""The contrasts of a results table: the declared family, corrected, and the exploratory rest."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from easycoreset.errors import UsageError
from easycoreset.statistics.contrasts import Contrast
from easycoreset.statistics.frontiers import (
    Gains,
    NotMeasurableError,
    difference,
    gain_at_equal_budget,
    gain_at_matched_clean,
)
from easycoreset.statistics.intervals import NAN, Estimate, estimate, holm, sign_flip_p
from easycoreset.statistics.outcomes import Outcomes, Row, Seeds
from easycoreset.statistics.planned import BASELINE, EQUAL, FULL, MATCHED, REFERENCES, Kind, PlannedContrast
from easycoreset.statistics.starts import Plans


def contrast_all(outcomes: Outcomes, plans: Plans | None = None) -> list[Contrast]:
    """The declared contrasts, those that were named later, and every method against random and against all data.

    Args:
        outcomes: of a results table.
        plans: what was declared, and what was named later; None for nothing.

    Returns:
        The declared contrasts first, the primary one foremost.

    Raises:
        UsageError: rows that are compared were evaluated on different images.
    """
    plans = plans or Plans()
    family = [_measure(plan, outcomes, declared=True, primary=plan == plans.primary) for plan in plans.family]
    family = sorted(_correct(family), key=lambda contrast: not contrast.primary)
    found = [*family, *(_measure(plan, outcomes, declared=False, note=note) for plan, note in plans.later)]
    known = {(contrast.plan.question, tuple(contrast.gains)) for contrast in found}
    for plan in _list_plans(outcomes, [contrast.plan for contrast in found]):
        contrast = _measure(plan, outcomes, declared=False)
        if (contrast.gains or contrast.problem) and (plan.question, tuple(contrast.gains)) not in known:
            known.add((plan.question, tuple(contrast.gains)))
            found.append(contrast)
    return found


def _correct(family: Sequence[Contrast]) -> list[Contrast]:
    """Holm's p of the family; the primary contrast is tested alone, the others only if it claims something."""
    values = [NAN if contrast.provisional else contrast.p for contrast in family if not contrast.primary]
    corrected = iter(holm(values))
    found = [
        dataclasses.replace(contrast, p_holm=contrast.p if contrast.primary else next(corrected)) for contrast in family
    ]
    held = any(contrast.primary and contrast.verdict not in ("gain", "loss") for contrast in found)
    return [dataclasses.replace(contrast, held_back=held and not contrast.primary) for contrast in found]


def _measure(plan: PlannedContrast, outcomes: Outcomes, **facts: Any) -> Contrast:
    """A contrast on the seeds of its plan that are done."""
    try:
        gains = find_gains(plan, outcomes)
    except NotMeasurableError as error:
        return Contrast(plan=plan, problem=str(error), lacking=_lacking(plan, outcomes), **facts)
    values = dict(zip(gains.seeds, map(float, gains.by_image.mean(1)), strict=True))
    found = Contrast(
        plan=plan,
        gains=values,
        lacking=_lacking(plan, outcomes),
        off=gains.off,
        estimate=estimate(gains.by_image),
        sign_flip_p=sign_flip_p(list(values.values())),
        strong=dict(_strong(plan, outcomes)),
        **facts,
    )
    if len(values) < 3:
        return found
    extreme = max(values, key=lambda seed: abs(values[seed] - found.gain))
    try:
        rest = find_gains(dataclasses.replace(plan, seeds=tuple(s for s in gains.seeds if s != extreme)), outcomes)
    except NotMeasurableError:
        return dataclasses.replace(found, extreme=extreme)
    return dataclasses.replace(found, extreme=extreme, without_extreme=estimate(rest.by_image))


def find_gains(plan: PlannedContrast, outcomes: Outcomes, strong: str | None = None) -> Gains:
    """The gains of a contrast, image by image, on those of its seeds that are done.

    Raises:
        NotMeasurableError: there is none.
    """

    def row(method: str, size: int) -> Row | None:
        return _row_of(plan, outcomes, (method, size), strong)

    own = row(plan.method, plan.size)
    other = row(plan.against, plan.size)
    if own is None or (other is None and (plan.kind == EQUAL or plan.against != BASELINE)):
        raise NotMeasurableError("no seed of it is done")
    if plan.kind == EQUAL:
        assert other is not None
        _require_same_images(own, other)
        return gain_at_equal_budget(own, other)
    frontier = {size: found for size in plan.frontier if (found := row(BASELINE, size)) is not None}
    _require_same_images(own, *frontier.values())
    gains = gain_at_matched_clean(own, frontier)
    if plan.against == BASELINE:
        return gains
    assert other is not None
    _require_same_images(own, other)
    return difference(gains, gain_at_matched_clean(other, frontier))


def _row_of(plan: PlannedContrast, outcomes: Outcomes, key: tuple[str, int], strong: str | None = None) -> Row | None:
    """A row on those of the plan's seeds and cells that are done; None where there is none."""
    found = outcomes.row(plan.setting, key, plan.eps, strong, plan.cells)
    seeds = [] if found is None else [seed for seed in found.seeds if seed in plan.seeds]
    return found.take(seeds) if found is not None and seeds else None


def _require_same_images(*rows: Row) -> None:
    """Refuse rows that were evaluated on different images.

    Raises:
        UsageError: any of them differs from the first.
    """
    if any(not np.array_equal(row.images, rows[0].images) for row in rows):
        raise UsageError("results: rows that are compared were evaluated on different images")


def _lacking(plan: PlannedContrast, outcomes: Outcomes) -> tuple[int, ...]:
    """Seeds of a plan of which some cell is not done."""
    rows = [_row_of(plan, outcomes, key) for key in plan.rows]
    return tuple(seed for seed in plan.seeds if any(row is None or seed not in row.seeds for row in rows))


def _strong(plan: PlannedContrast, outcomes: Outcomes) -> Iterator[tuple[str, Estimate]]:
    """The same under the strong attacks, where they were run: at the main radius."""
    if plan.setting in outcomes.grid and np.isclose(plan.eps, outcomes.main(plan.setting)):
        for attack in outcomes.strong_attacks(plan.setting):
            try:
                yield attack, estimate(find_gains(plan, outcomes, attack).by_image)
            except NotMeasurableError:
                continue


def _list_plans(outcomes: Outcomes, named: Sequence[PlannedContrast]) -> Iterator[PlannedContrast]:
    """Every contrast that the table allows with random and with all data, and those that were named at every radius."""
    for setting, rows in outcomes.grid.items():
        sizes = tuple(sorted(size for method, size in rows if method == BASELINE))
        pairs = [*_pairs(rows, sizes), *((p.method, p.against, p.kind, p.size) for p in named if p.setting == setting)]
        for eps in outcomes.radii(setting):
            for method, against, kind, size in dict.fromkeys(pairs):
                plan = PlannedContrast(
                    method=method,
                    against=against,
                    kind=kind,
                    data=setting[0],
                    model=setting[1],
                    objective=setting[2],
                    fraction=setting[3],
                    eps=eps,
                    size=size,
                    unit=outcomes.unit(setting),
                    frontier=sizes if kind == MATCHED else (),
                )
                seeds = [set(rows[key]) for key in plan.rows if key in rows]
                yield dataclasses.replace(plan, seeds=tuple(sorted(set.intersection(*seeds)))) if seeds else plan


def _pairs(rows: Seeds, sizes: Sequence[int]) -> Iterator[tuple[str, str, Kind, int]]:
    for method, size in rows:
        if method == BASELINE:
            continue
        if size in sizes:
            yield method, BASELINE, EQUAL, size
        if len(sizes) > 1:
            yield method, BASELINE, MATCHED, size
        if method not in REFERENCES and (FULL, size) in rows:
            yield method, FULL, EQUAL, size
