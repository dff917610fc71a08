"""The best epoch beside the last: what training on after the best epoch costs in robustness."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import pyarrow as pa

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Section
from easycoreset.plan_folders import CHECKPOINT
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.statistics import Outcomes, estimate
from easycoreset.statistics.gains import NotMeasurableError, gain_at_equal_budget
from easycoreset.statistics.settings import Setting

NOTE = (
    "The best epoch has the highest accuracy on held-out training samples, under PGD-10 for an adversarial objective; "
    "the test images had no part in it. Where it is more robust than the last, training overfitted (robust "
    "overfitting: Rice, Wong and Kolter 2020). Differences are the last epoch's accuracy minus the best's, in points, "
    "on the same seeds and images; their intervals are computed as those of contrasts, and nothing is corrected."
)
COLUMNS = ("eps", "seeds", "best epoch", "of", "clean, best", "clean, last", "robust, best", "robust, last")


def describe_best_epochs(outcomes: Outcomes, cells: Sequence[Mapping[str, Any]]) -> list[Section]:
    """One row per method and budget that was evaluated at its best epoch and at its last."""
    pairs = {best: best.without(CHECKPOINT) for best in outcomes.grid if best.options.get(CHECKPOINT) == "best"}
    settings = SettingCells(pairs.values())
    trained = {cell["name"]: cell["trained"] for cell in cells}
    rows: dict[tuple[Any, ...], list[Any]] = {}
    for best_setting, last_setting in pairs.items():
        for key, by_seed in outcomes.grid[best_setting].items():
            figures = _compare_epochs(outcomes, best_setting, last_setting, key)
            if figures is None:
                continue
            method, budget = key
            summaries = [trained[names[0]] for names in by_seed.values()]
            epochs = [round(mean(summary[name] for summary in summaries), 1) for name in ("best_epoch", "epochs")]
            where = settings.of(last_setting, method)
            what = [
                method,
                f"{budget} {outcomes.budget_unit(best_setting)}",
                format_eps(outcomes.main_eps(best_setting)),
            ]
            seeds, *accuracies = figures
            rows.setdefault((*where, *what), [*where, *what, seeds, *epochs, *accuracies])
    if not rows:
        return []
    columns = [*settings.columns, "method", "budget", *COLUMNS, "difference", "low", "high"]
    table = DataTable("accuracy in % at the best epoch and at the last, mean over seeds", columns, list(rows.values()))
    return [Section("The best epoch and the last", [NOTE], tables=[table])]


def without_best_epochs(results: pa.Table) -> pa.Table:
    """The results without the rows of best epochs of models whose last epoch has rows too."""
    variants = {row["cell"]: Setting.of(row) for row in results.to_pylist()}
    last = set(variants.values())
    best = {cell for cell, setting in variants.items() if setting.without(CHECKPOINT) in last - {setting}}
    return results.filter(pa.array([cell not in best for cell in results["cell"].to_pylist()], pa.bool_()))


def _compare_epochs(
    outcomes: Outcomes, best_setting: Setting, last_setting: Setting, key: tuple[str, int]
) -> list[Any] | None:
    """Seeds, clean and robust accuracies of both epochs, and the difference with its interval."""
    eps = outcomes.main_eps(best_setting)
    best, last = (outcomes.row(setting, key, eps) for setting in (best_setting, last_setting))
    if best is None or last is None:
        return None
    try:
        gains = gain_at_equal_budget(last, best)
    except NotMeasurableError:
        return None
    best, last = best.select_seeds(gains.seeds), last.select_seeds(gains.seeds)
    difference = estimate(gains.by_image)
    accuracies = [best.clean.mean(), last.clean.mean(), best.robust.mean(), last.robust.mean()]
    figures = [*map(float, accuracies), difference.mean, difference.low, difference.high]
    return [len(gains.seeds), *(None if value != value else round(100 * value, 2) for value in figures)]
