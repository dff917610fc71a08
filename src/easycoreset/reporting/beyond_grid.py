"""A comparison's rows on corrupted images and by certified radius, beside random subsets."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from easycoreset.documents import DataTable, Figure, Section
from easycoreset.documents.beyond_the_ball import MEANS, plain_name
from easycoreset.documents.plots import axes_layout, line_trace
from easycoreset.parquet import read_table
from easycoreset.plan_folders import step_folder
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.reporting.training_report import show_corruptions
from easycoreset.statistics import Estimate, Outcomes, estimate, mean_std
from easycoreset.statistics.beyond import BeyondTheBall, Measure
from easycoreset.statistics.gains import Gains, NotMeasurableError, gain_at_equal_budget, gain_at_matched_clean
from easycoreset.statistics.planned_contrasts import BASELINE
from easycoreset.statistics.settings import Setting, describe_share, differing_fields, label_setting

NOTE = (
    "Gains are over random subsets, in points: at the same budget, and at the same clean accuracy (above the frontier "
    "of random's budgets), with 95% intervals over seeds and images. They are exploratory, and not corrected for "
    "their number."
)
GAIN_COLUMNS = ("gain", "low", "high", "gain, same clean", "its low", "its high")


def describe_beyond(folder: Path, outcomes: Outcomes, cells: Sequence[dict[str, Any]]) -> list[Section]:
    """The sections of corrupted images and of certified radii; none where no cell was evaluated on them."""
    evaluations = {cell["name"]: cell["beyond"] for cell in cells if cell["beyond"]}
    if not evaluations:
        return []
    results = BeyondTheBall(outcomes, evaluations, partial(_load, folder))
    found = results.measures()
    by_kind = {kind: [m for m in found if m.kind == kind] for kind in ("mean", "corruption", "severity", "radius")}
    sections: list[Section] = []
    if corrupted := by_kind["mean"] or by_kind["corruption"]:
        caption = "accuracy in % on corrupted images, mean and standard deviation over seeds"
        figures = list(_draw(results, by_kind["severity"], "severity", "accuracy on corrupted images, %"))
        sections.append(
            Section("Corrupted images", [NOTE], figures=figures, tables=[_table(results, corrupted, caption)])
        )
        rest = [measure for measure in (*by_kind["corruption"], *by_kind["severity"]) if measure not in corrupted]
        if rest:
            sections.append(Section("Every corruption", tables=[_table(results, rest, caption)], collapsed=True))
        key = next(line["key"] for lines in evaluations.values() for line in lines if "corruptions" in line)
        sections += show_corruptions(step_folder(folder, "evaluate", key) / "corruptions.parquet")
    if certified := by_kind["radius"]:
        caption = (
            "certified accuracy in %, mean and standard deviation over seeds; abstentions are wrong; clean is radius 0"
        )
        figures = list(_draw(results, certified, "l2 radius", "certified accuracy, %"))
        sections.append(
            Section("Certified radii", [NOTE], figures=figures, tables=[_table(results, certified, caption)])
        )
    return sections


def _table(results: BeyondTheBall, measures: Sequence[Measure], caption: str) -> DataTable:
    """One row per measure, method and budget; a single measure stands in the caption."""
    settings = SettingCells(results.outcomes.grid)
    rows: list[list[Any]] = []
    single = len(measures) == 1
    for setting, keys in results.outcomes.grid.items():
        unit = results.outcomes.budget_unit(setting)
        for measure in measures:
            for method, budget in keys:
                row = results.row(setting, (method, budget), measure)
                if row is None:
                    continue
                clean, (accuracy, std) = 100 * float(row.clean.mean()), mean_std([100 * v for v in row.robust.mean(1)])
                figures = [round(clean, 2), round(accuracy, 2), None if std != std else round(std, 2)]
                what = [*settings.of(setting, method), *([] if single else [describe_measure(measure)])]
                gains = _gains(results, setting, (method, budget), measure)
                counts = [len(row.seeds), len(row.images)]
                rows.append([*what, method, f"{budget} {unit}", *figures, *gains, *counts])
    columns = [*settings.columns, *([] if single else ["measure"]), "method", "budget", "clean", "accuracy", "±"]
    caption = f"{caption}: {describe_measure(measures[0])}" if single else caption
    return DataTable(caption, [*columns, *GAIN_COLUMNS, "seeds", "images"], rows)


def _gains(results: BeyondTheBall, setting: Setting, key: tuple[str, int], measure: Measure) -> list[float | None]:
    """Gain, low and high in points, at equal budget and at the same clean accuracy; None for random itself."""
    method, budget = key
    row = results.row(setting, key, measure)
    keys = [other for other in results.outcomes.grid[setting] if other[0] == BASELINE]
    frontier = {
        size: found for _, size in keys if (found := results.row(setting, (BASELINE, size), measure)) is not None
    }
    if row is None or method == BASELINE:
        return [None] * len(GAIN_COLUMNS)
    same = frontier.get(budget)
    measured: list[Callable[[], Gains] | None] = [
        None if same is None else lambda: gain_at_equal_budget(row, same),
        lambda: gain_at_matched_clean(row, frontier),
    ]
    return [value for gain in measured for value in _in_points(gain)]


def _in_points(gain: Callable[[], Gains] | None) -> list[float | None]:
    try:
        estimated: Estimate | None = None if gain is None else estimate(gain().by_image)
    except NotMeasurableError:
        estimated = None
    if estimated is None:
        return [None] * 3
    values = (estimated.mean, estimated.low, estimated.high)
    return [None if value != value else round(100 * value, 2) for value in values]


def _draw(results: BeyondTheBall, measures: Sequence[Measure], x: str, y: str) -> Iterator[Figure]:
    """Accuracy over the level, one line per method at its largest budget, a figure per setting and certificate."""
    fields = differing_fields(results.outcomes.grid)
    for setting, keys in results.outcomes.grid.items():
        for name in dict.fromkeys(measure.name for measure in measures):
            levels = [measure for measure in measures if measure.name == name]
            largest = {method: max(size for other, size in keys if other == method) for method, _ in keys}
            traces: list[dict[str, Any]] = []
            for number, key in enumerate(sorted(largest.items(), key=lambda item: item[0] != BASELINE)):
                rows = {m.level: row for m in levels if (row := results.row(setting, key, m)) is not None}
                heights = [100 * mean(row.robust.mean(1).tolist()) for row in rows.values()]
                traces += [line_trace(key[0], number, list(rows), heights)] if rows else []
            where = f"{label_setting(setting, fields)}{setting.objective}, {describe_share(setting.fraction)}"
            if traces:
                caption = f"{where}{f', {name}' if name else ''}: {y.partition(',')[0]} at the largest budget"
                yield Figure(caption, traces, axes_layout(x, y))


def describe_measure(measure: Measure) -> str:
    """A measure in words.

    >>> describe_measure(Measure("corruption", "shot_noise")), describe_measure(Measure("radius", "sigma=0.25", 0.5))
    ('shot noise', 'sigma=0.25, radius 0.5')
    """
    if measure.kind == "mean":
        return MEANS[measure.name]
    if measure.kind == "radius":
        return f"{measure.name}, radius {measure.level:g}"
    return plain_name(measure.name) if measure.kind == "corruption" else f"severity {measure.level:g}, mean"


def _load(folder: Path, key: str, name: str) -> Any:
    return read_table(step_folder(folder, "evaluate", key) / name, {"index": "integer", "pred": "integer"})
