"""The report of a comparison: the verdict first, then the results behind it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa

from easycoreset.console import format_eps, format_percent
from easycoreset.documents import DataTable, Figure, MeanStd, Section, without_brief
from easycoreset.documents.plots import COLOURS, axes_layout
from easycoreset.options import ScoringOptions, TrainingOptions, ValidationOptions
from easycoreset.options.comparing import FULL
from easycoreset.plan_folders import CHECKPOINT, IMAGES_OF, read_cell, step_folder
from easycoreset.reporting.advice import advise
from easycoreset.reporting.best_epochs import describe_best_epochs, without_best_epochs
from easycoreset.reporting.beyond_grid import describe_beyond
from easycoreset.reporting.classes import describe_classes
from easycoreset.reporting.contrasts import (
    ComparisonResults,
    make_contrast_table,
    make_overview_table,
    make_sensitivity_table,
    verdict_sentences,
)
from easycoreset.reporting.dynamic_methods import describe_dynamic_methods
from easycoreset.reporting.epoch_counts import EPOCHS_NOTE, count_epochs, format_epochs
from easycoreset.reporting.figures import describe_fractions, draw_cost, draw_curves, draw_frontiers
from easycoreset.reporting.score_report import describe_scores
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.reporting.start_history import describe_start_history
from easycoreset.reporting.strong_attacks import describe_strong_attacks
from easycoreset.statistics import ENOUGH_SEEDS, Contrast, Group, group_results
from easycoreset.statistics.planned_contrasts import BASELINE
from easycoreset.statistics.results import list_warnings
from easycoreset.statistics.settings import Setting


def describe_comparison(found: ComparisonResults) -> list[Section]:
    """The sections of a comparison."""
    results, record, contrasts, outcomes = found.results, found.record, found.contrasts, found.outcomes
    if not results.num_rows:
        return [Section("Results", ["No cell is finished yet."], brief=True)]
    results = without_best_epochs(results)
    groups = group_results(results)
    declared = [contrast for contrast in contrasts if contrast.declared]
    names = _cell_names(found.results)
    described = (read_cell(found.folder, cell) for cell in record["cells"] if cell["name"] in names)
    all_cells = [cell for cell in described if cell is not None]
    names = _cell_names(results)
    cells = [cell for cell in all_cells if cell["name"] in names]
    planned = len({cell["steps"]["train"] for cell in record["cells"] if not cell["superseded"]})
    overview = make_overview_table(contrasts)
    sensitivity = [make_sensitivity_table(declared)] if declared else []
    return [
        _verdict(results, contrasts, groups, planned),
        *([] if overview is None else [Section("Over data sets and models", [OVERVIEW_NOTE], tables=[overview])]),
        Section("Clean against robust accuracy", [FRONTIER_NOTE], figures=draw_frontiers(groups)),
        *describe_fractions(groups),
        Section("Robustness over eps", figures=draw_curves(groups)),
        _setting(results, cells),
        *describe_dynamic_methods(cells),
        Section("Cost", [EPOCHS_NOTE, RS2_NOTE], figures=[draw_cost(results)], tables=[_costs(groups, results, cells)]),
        *([Section("Sensitivity of the declared contrasts", [SENSITIVITY_NOTE], tables=sensitivity)] * bool(declared)),
        *describe_best_epochs(outcomes, all_cells),
        *describe_strong_attacks(outcomes),
        *describe_beyond(found.folder, outcomes, all_cells),
        *describe_classes(outcomes),
        Section("Every contrast", [EXPLORATORY_NOTE], tables=[make_contrast_table(contrasts)], collapsed=True),
        _class_counts(cells),
        describe_start_history(record),
        *_hardness(found.folder, record, groups),
        _warnings(found.folder, cells),
    ]


def _setting(results: pa.Table, cells: Sequence[dict[str, Any]]) -> Section:
    """The data, the training and the attacks."""
    rows = results.to_pylist()
    bullets = [f"Data {', '.join(_distinct(rows, 'data'))}; model {', '.join(_distinct(rows, 'model'))}."]
    bullets.append(f"Training: {', '.join(_training_options(cells))}.")
    for objective in _distinct(rows, "objective"):
        name, parameters = objective.partition(":")[::2]
        if name != "standard" and "." not in name and "eps=" not in parameters:
            bullets.append(f"{objective} was trained at its default eps, 8/255.")
    attacks: dict[str, dict[str, Any]] = {}
    for entry in (entry for cell in cells for entry in cell["evaluated"]):
        attacks = entry.get("attacks", {}) | attacks  # at the first eps
    for name, fields in attacks.items():
        shown = [f"{key} {_format_value(value)}" for key, value in fields.items() if key != "strength"]
        bullets.append(f"Attack {name}: {', '.join(shown)}.")
    splits = sorted({entry["split"] for cell in cells for entry in cell["evaluated"]} - {"test"})
    if splits:
        bullets.append(f"Not on test images: evaluated on {' and '.join(IMAGES_OF[split] for split in splits)}.")
    image_counts = {(row["eps"], row["samples"]) for row in rows if not row["strong"]}
    if len({count for _, count in image_counts}) > 1:
        counts = ", ".join(f"{count} at eps {format_eps(eps)}" for eps, count in sorted(image_counts))
        bullets.append(f"The accuracies are of different numbers of images: {counts}.")
    return Section("Setting", bullets=bullets)


def _training_options(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Values of the main options in any cell, and of all others that are off their default in any cell."""
    shown: list[str] = []
    for kind, options, defaults in (
        ("", "training_options", TRAINING_DEFAULTS),
        ("score.", "scoring_options", SCORING_DEFAULTS),
    ):
        main = MAIN_OPTIONS if not kind else ("epochs",)
        for name in dict.fromkeys((*main, *defaults)):
            values = list(dict.fromkeys(cell[options][name] for cell in cells if name in cell[options]))
            if name in main or set(values) - {defaults[name]}:
                shown += [f"{kind}{name} {' or '.join(map(_format_value, values))}"] if values else []
    return shown


def _distinct(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(str(row[name]) for row in rows))


def _format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


MAIN_OPTIONS = ("batch_size", "lr", "weight_decay", "schedule")  # shown even at their defaults
TRAINING_DEFAULTS = {
    option.name: option.default
    for group in (TrainingOptions, ValidationOptions)
    for option in dataclasses.fields(group)
}
SCORING_DEFAULTS = {option.name: option.default for option in dataclasses.fields(ScoringOptions)}
FRONTIER_NOTE = (
    "Training for fewer updates also raises robustness at small eps and lowers clean accuracy: a method is better only "
    "where it lies above the line of random subsets. Bars are standard errors over seeds."
)
OVERVIEW_NOTE = (
    "Each contrast is within one data set and model, and nothing is pooled: a method that gains in all of them has a "
    "gain in each one by itself."
)
EXPLORATORY_NOTE = (
    "Contrasts that were not declared before the run are exploratory: there are many, and p is not corrected for that."
)
SENSITIVITY_NOTE = (
    "Each seed's gain; the interval without the seed whose gain is farthest from the mean (a check chosen after the "
    "fact, which supports no claim); the exact p of a sign-flip test over seeds, at least 2 / 2^n with n seeds; and "
    "the gain under the strong attacks, on fewer images."
)
RS2_NOTE = (
    "full is training on all data for the same number of updates. Choosing a new random subset every epoch (RS2, "
    "Okanovic et al. 2024) amounts to the same, up to the order of the samples."
)


def _hardness(folder: Path, record: dict[str, Any], groups: Sequence[Group]) -> list[Section]:
    """The sections of one scoring run, if there is one."""
    keys = [cell["steps"]["score"] for cell in record["cells"] if "score" in cell["steps"]]
    folders = [step_folder(folder, "score", key) for key in keys]
    scored = next((scored for scored in folders if (scored / "scores.parquet").exists()), None)
    fractions = sorted({group.fraction for group in groups if 0 < group.fraction < 1})
    return [] if scored is None else without_brief(describe_scores(scored, fractions))


def _cell_names(results: pa.Table) -> list[str]:
    return list(dict.fromkeys(results["cell"].to_pylist()))


def _verdict(results: pa.Table, contrasts: Sequence[Contrast], groups: Sequence[Group], planned: int | None) -> Section:
    seeds = min(group.seeds for group in groups)
    declared = verdict_sentences([contrast for contrast in contrasts if contrast.declared])
    advice = advise([c for c in contrasts if c.declared or c.plan.setting.options.get(CHECKPOINT) != "best"])
    seed_count = f"{seeds} seed{'s' * (seeds > 1)}"
    methods = len({group.method for group in groups})
    intro = f"{len(_cell_names(results))} cells of {methods} method{'s' * (methods > 1)}, at least {seed_count} each."
    if planned is not None and len(_cell_names(results)) < planned:
        intro += f" {planned} cells are planned: all results are provisional."
    if seeds < ENOUGH_SEEDS:
        intro += f" Fewer than {ENOUGH_SEEDS} seeds: a first look, not a finding."
    if not declared:
        intro += " No contrast was declared before the run."
    in_verdict = {contrast.method for contrast in contrasts if contrast.declared}
    late = dict.fromkeys(c.method for c in contrasts if c.note and c.method not in in_verdict)
    if declared and late:
        intro += f" Added later, and no part of this verdict: {', '.join(late)} (see Every contrast)."
    paragraphs = [*([advice] if advice else []), intro]
    return Section("Verdict", paragraphs, bullets=declared, tables=[summarise_groups(groups)], brief=True)


def _selection_costs(results: pa.Table) -> dict[tuple[Any, ...], list[float | None]]:
    """Setting and method -> mean seconds and mean MB of selection over all cells, None if unknown."""
    names = (*Setting._fields, "method")
    cells = {row["cell"]: row for row in results.to_pylist()}.values()
    costs: dict[tuple[Any, ...], list[float | None]] = {}
    for key in {tuple(row[name] for name in names) for row in cells}:
        matching = [row for row in cells if tuple(row[name] for name in names) == key]
        known = [[row[name] for row in matching if row.get(name) is not None] for name in COST_COLUMNS]
        costs[key] = [round(sum(values) / len(values), 3) if values else None for values in known]
    return costs


COST_COLUMNS = ("selection_seconds", "selection_mb")


def summarise_groups(groups: Sequence[Group]) -> DataTable:
    """The accuracies of all rows, mean and standard deviation over seeds."""
    eps = sorted({key[1] for group in groups for key in group.robust})
    settings = SettingCells(group.setting for group in groups)
    rows: list[list[Any]] = []
    for group in groups:
        figures = [group.clean, *map(group.accuracy_at, eps)]
        accuracies = [None if f is None else MeanStd(100 * f[0], 100 * f[1]) for f in figures]
        where = settings.of(group.setting, group.method)
        rows.append([*where, group.method, group.budget, group.seeds, *accuracies])
    columns = [*settings.columns, "method", "budget", "seeds", "clean", *(f"eps {format_eps(e)}" for e in eps)]
    details = ["budget"] if len({group.budget for group in groups}) == 1 else []
    caption = "accuracy in %, mean ± standard deviation over seeds"
    return DataTable(caption, columns, rows, details=details, blocks=("objective", "kept"))


def _costs(groups: Sequence[Group], results: pa.Table, cells: Sequence[dict[str, Any]]) -> DataTable:
    """The compute of all rows."""
    settings = SettingCells(group.setting for group in groups)
    costs, epochs = _selection_costs(results), count_epochs(cells)
    rows = []
    for group in groups:
        name = "full (RS2, up to order)" if group.method == FULL else group.method
        where = [*settings.of(group.setting, group.method), name, group.budget]
        rows.append([*where, *format_epochs(group, epochs), *costs[*group.setting, group.method]])
    names = [*settings.columns, "method", "budget", "epochs of training", "with choosing"]
    return DataTable("compute", [*names, "selection, s", "selection, MB"], rows)


def _class_counts(cells: Sequence[dict[str, Any]]) -> Section:
    first = {(c["data"], c["method"], c["fraction"]): c for c in reversed(cells) if c["seed"] == 0}
    several = len({data for data, _, _ in first}) > 1
    figures = []
    for (data_set, method, fraction), cell in sorted(first.items()):
        where = f"{data_set}: " if several else ""
        counts = cell["chosen"]["class_counts"]
        if method in (BASELINE, FULL) or "select" not in cell["steps"] or not counts["before"]:
            continue
        classes = list(range(len(counts["before"])))
        data = [
            {"type": "bar", "name": label, "x": classes, "y": counts[key], "marker": {"color": COLOURS[number]}}
            for number, (label, key) in enumerate((("before", "before"), ("kept", "after")))
        ]
        figures.append(
            Figure(
                f"{where}{method}, {format_percent(fraction)} kept, seed 0: samples of each class",
                data,
                axes_layout("class", "samples"),
            )
        )
    return Section("Classes before and after", figures=figures)


def _warnings(folder: Path, cells: Sequence[dict[str, Any]]) -> Section:
    longer_checks = [
        (cell["objective"], check)
        for cell in cells
        for entry in cell["evaluated"]
        for check in entry["checks"]
        if check["name"] == "longer_attack"
    ]
    bullets: list[str] = []
    for objective in dict.fromkeys(objective for objective, check in longer_checks if not check["passed"]):
        figures = [100 * check["figure"] for other, check in longer_checks if other == objective]
        overestimate = f"{mean(figures):.1f} points in the mean of {len(figures)} cells ({max(figures):.1f} at most)"
        bullets.append(
            f"{objective}: attacks with five times as many steps show that robust accuracy is overestimated by "
            f"{overestimate}, at the eps where each was tried; try autoattack"
        )
    summarised = {check["message"] for _, check in longer_checks}
    counted = Counter(text for cell in cells for text in list_warnings(folder, cell) if text not in summarised)
    bullets += [f"{text} ({count} of {len(cells)} cells)" for text, count in counted.most_common()]
    return Section(
        "Warnings",
        [] if bullets else ["No warnings: every class kept samples, and every check passed in every cell."],
        bullets=bullets,
    )
