"""All contrasts of a results table: the declared family, with corrected p, and the exploratory ones."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from easycoreset.errors import UsageError
from easycoreset.options.comparing import FULL
from easycoreset.statistics.contrasts import Contrast
from easycoreset.statistics.gains import (
    Gains,
    NotMeasurableError,
    difference,
    gain_at_equal_budget,
    gain_at_matched_clean,
)
from easycoreset.statistics.intervals import NAN, Estimate, estimate, holm, sign_flip_p
from easycoreset.statistics.outcomes import Outcomes, Row, Seeds
from easycoreset.statistics.planned_contrasts import (
    BASELINE,
    CONTROL_METHODS,
    EQUAL_UPDATES,
    MATCHED_CLEAN,
    Kind,
    PlannedContrast,
)
from easycoreset.statistics.settings import differing_fields, label_setting
from easycoreset.statistics.starts import Plans


def contrast_all(outcomes: Outcomes, plans: Plans | None = None) -> list[Contrast]:
    """Measure the declared contrasts, those added later, and every method against random and against all data.

    Args:
        outcomes: outcomes of a results table.
        plans: contrasts that were declared or added later; None if there are none.

    Returns:
        The declared contrasts, the primary one first, then the others.

    Raises:
        UsageError: two compared rows were evaluated on different images.
    """
    plans = plans or Plans()
    family = [_measure(plan, outcomes, declared=True, primary=plan == plans.primary) for plan in plans.family]
    family = sorted(_correct(family), key=lambda contrast: not contrast.primary)
    contrasts = [*family, *(_measure(plan, outcomes, declared=False, note=note) for plan, note in plans.later)]
    seen = {(contrast.plan.question, tuple(contrast.gains)) for contrast in contrasts}
    for plan in _list_plans(outcomes, [contrast.plan for contrast in contrasts]):
        contrast = _measure(plan, outcomes, declared=False)
        if (contrast.gains or contrast.problem) and (plan.question, tuple(contrast.gains)) not in seen:
            seen.add((plan.question, tuple(contrast.gains)))
            contrasts.append(contrast)
    fields = differing_fields(contrast.plan.setting for contrast in contrasts)
    return [dataclasses.replace(c, label=label_setting(c.plan.setting, fields)) for c in contrasts]


def _correct(family: Sequence[Contrast]) -> list[Contrast]:
    """Add Holm's corrected p.

    The primary contrast is tested alone; the others can be a gain or a loss only if it is one.
    """
    p_values = [NAN if contrast.provisional else contrast.p for contrast in family if not contrast.primary]
    corrected = iter(holm(p_values))
    corrected_family = [
        dataclasses.replace(contrast, p_holm=contrast.p if contrast.primary else next(corrected)) for contrast in family
    ]
    held_back = any(contrast.primary and contrast.verdict not in ("gain", "loss") for contrast in corrected_family)
    return [
        dataclasses.replace(contrast, held_back=held_back and not contrast.primary) for contrast in corrected_family
    ]


def _measure(plan: PlannedContrast, outcomes: Outcomes, **status: Any) -> Contrast:
    """Measure a contrast on its planned seeds, as far as they are finished."""
    try:
        gains = measure_gains(plan, outcomes)
    except NotMeasurableError as error:
        return Contrast(plan=plan, problem=str(error), lacking=_unfinished_seeds(plan, outcomes), **status)
    gain_by_seed = dict(zip(gains.seeds, map(float, gains.by_image.mean(1)), strict=True))
    contrast = Contrast(
        plan=plan,
        gains=gain_by_seed,
        clean=_mean_clean(plan, outcomes, gains.seeds),
        lacking=_unfinished_seeds(plan, outcomes),
        off=gains.off_frontier,
        estimate=estimate(gains.by_image),
        sign_flip_p=sign_flip_p(list(gain_by_seed.values())),
        strong=dict(_strong_estimates(plan, outcomes)),
        **status,
    )
    if len(gain_by_seed) < 3:
        return contrast
    extreme = max(gain_by_seed, key=lambda seed: abs(gain_by_seed[seed] - contrast.gain))
    try:
        remaining_seeds = tuple(seed for seed in gains.seeds if seed != extreme)
        remaining_gains = measure_gains(dataclasses.replace(plan, seeds=remaining_seeds), outcomes)
    except NotMeasurableError:
        return dataclasses.replace(contrast, extreme=extreme)
    return dataclasses.replace(contrast, extreme=extreme, without_extreme=estimate(remaining_gains.by_image))


def measure_gains(plan: PlannedContrast, outcomes: Outcomes, strong: str | None = None) -> Gains:
    """The gains of a contrast, image by image, on its planned seeds, as far as they are finished.

    Raises:
        NotMeasurableError: none of its seeds is finished, the rows have no seed in common, or the clean accuracy
            cannot be matched.
        UsageError: the rows were evaluated on different images.
    """

    def row(method: str, budget: int) -> Row | None:
        return _planned_row(plan, outcomes, (method, budget), strong)

    method_row = row(plan.method, plan.size)
    against_row = row(plan.against, plan.size)
    if method_row is None or (against_row is None and (plan.kind == EQUAL_UPDATES or plan.against != BASELINE)):
        raise NotMeasurableError("none of its seeds is done")
    if plan.kind == EQUAL_UPDATES:
        assert against_row is not None
        _require_same_images(method_row, against_row)
        return gain_at_equal_budget(method_row, against_row)
    frontier = {budget: random for budget in plan.frontier if (random := row(BASELINE, budget)) is not None}
    _require_same_images(method_row, *frontier.values())
    gains = gain_at_matched_clean(method_row, frontier)
    if plan.against == BASELINE:
        return gains
    assert against_row is not None
    _require_same_images(method_row, against_row)
    return difference(gains, gain_at_matched_clean(against_row, frontier))


def _planned_row(
    plan: PlannedContrast, outcomes: Outcomes, key: tuple[str, int], strong: str | None = None
) -> Row | None:
    """A row restricted to the plan's seeds and cells that are finished; None if there are none."""
    row = outcomes.row(plan.setting, key, plan.eps, strong, plan.cells)
    seeds = [] if row is None else [seed for seed in row.seeds if seed in plan.seeds]
    return row.select_seeds(seeds) if row is not None and seeds else None


def _mean_clean(plan: PlannedContrast, outcomes: Outcomes, seeds: Sequence[int]) -> tuple[float, float] | None:
    """Mean clean accuracy of the method and of what it is compared with, over some seeds, at the plan's budget."""
    found = [_planned_row(plan, outcomes, (name, plan.size)) for name in (plan.method, plan.against)]
    rows = [row.select_seeds(seeds) for row in found if row is not None and set(seeds) <= set(row.seeds)]
    return (float(rows[0].clean.mean()), float(rows[1].clean.mean())) if len(rows) == 2 else None


def _require_same_images(*rows: Row) -> None:
    """Refuse rows that were evaluated on different images.

    Raises:
        UsageError: a row has other images than the first row.
    """
    if any(not np.array_equal(row.images, rows[0].images) for row in rows):
        raise UsageError("results: rows that are compared were evaluated on different images")


def _unfinished_seeds(plan: PlannedContrast, outcomes: Outcomes) -> tuple[int, ...]:
    """The planned seeds with an unfinished cell."""
    rows = [_planned_row(plan, outcomes, key) for key in plan.rows]
    return tuple(seed for seed in plan.seeds if any(row is None or seed not in row.seeds for row in rows))


def _strong_estimates(plan: PlannedContrast, outcomes: Outcomes) -> Iterator[tuple[str, Estimate]]:
    """(attack, estimate) for each strong attack; they run at the main eps only."""
    if plan.setting in outcomes.grid and np.isclose(plan.eps, outcomes.main_eps(plan.setting)):
        for attack in outcomes.strong_attacks(plan.setting):
            try:
                yield attack, estimate(measure_gains(plan, outcomes, attack).by_image)
            except NotMeasurableError:
                continue


def _list_plans(outcomes: Outcomes, planned: Sequence[PlannedContrast]) -> Iterator[PlannedContrast]:
    """Every possible contrast with random and with all data, and the planned ones, each at every eps of the table."""
    for setting, rows in outcomes.grid.items():
        random_budgets = tuple(sorted(budget for method, budget in rows if method == BASELINE))
        comparisons = [
            *_candidate_comparisons(rows, random_budgets),
            *((p.method, p.against, p.kind, p.size) for p in planned if p.setting == setting),
        ]
        for eps in outcomes.radii(setting):
            for method, against, kind, budget in dict.fromkeys(comparisons):
                plan = PlannedContrast(
                    method=method,
                    against=against,
                    kind=kind,
                    **setting._asdict(),
                    eps=eps,
                    size=budget,
                    unit=outcomes.budget_unit(setting),
                    frontier=random_budgets if kind == MATCHED_CLEAN else (),
                )
                seeds = [set(rows[key]) for key in plan.rows if key in rows]
                yield dataclasses.replace(plan, seeds=tuple(sorted(set.intersection(*seeds)))) if seeds else plan


def _candidate_comparisons(rows: Seeds, random_budgets: Sequence[int]) -> Iterator[tuple[str, str, Kind, int]]:
    """(method, against, kind, budget) of every possible contrast with random and with all data."""
    for method, budget in rows:
        if method == BASELINE:
            continue
        if budget in random_budgets:
            yield method, BASELINE, EQUAL_UPDATES, budget
        if len(random_budgets) > 1:
            yield method, BASELINE, MATCHED_CLEAN, budget
        if method not in CONTROL_METHODS and (FULL, budget) in rows:
            yield method, FULL, EQUAL_UPDATES, budget
