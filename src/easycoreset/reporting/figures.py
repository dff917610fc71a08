"""The figures of a comparison: frontiers, accuracy over eps and over the fraction kept, cost."""

from collections.abc import Sequence

import pyarrow as pa

from easycoreset.console import format_duration, format_eps
from easycoreset.documents import Figure, Section
from easycoreset.documents.plots import axes_layout, eps_layout, error_bars, line_trace
from easycoreset.options.comparing import FULL
from easycoreset.statistics import Group
from easycoreset.statistics.settings import (
    OWN_SHARE,
    Setting,
    describe_share,
    differing_fields,
    group_by_setting,
    label_setting,
)


def _settings(groups: Sequence[Group]) -> dict[Setting, list[Group]]:
    """The groups of each setting."""
    return group_by_setting(groups, lambda group: group.setting, lambda group: group.method)


def _captions(groups: Sequence[Group]) -> dict[Setting, str]:
    """What every setting differs in, for captions."""
    fields = differing_fields(_settings(groups))
    return {setting: label_setting(setting, fields) for setting in _settings(groups)}


def _method_numbers(groups: Sequence[Group]) -> dict[str, int]:
    """The number that gives each method its colour and symbol in all figures; random is 0."""
    names = dict.fromkeys(["random", *(group.method for group in groups)])
    return {name: number for number, name in enumerate(names)}


def _standard_error(mean_std: tuple[float, float], seeds: int) -> float:
    return 100 * mean_std[1] / seeds**0.5


def draw_frontiers(groups: Sequence[Group]) -> list[Figure]:
    """Robust against clean accuracy, one line per method over its budgets."""
    captions = _captions(groups)
    numbers = _method_numbers(groups)
    figures = []
    for setting, in_setting in _settings(groups).items():
        eps = in_setting[0].main_eps
        data = []
        pairs = [(g, robust) for g in in_setting if (robust := g.accuracy_at(eps)) is not None]
        for method in dict.fromkeys(group.method for group, _ in pairs):
            points = sorted(((g, r) for g, r in pairs if g.method == method), key=lambda pair: pair[0].clean[0])
            data.append(
                line_trace(
                    method,
                    numbers[method],
                    [100 * g.clean[0] for g, _ in points],
                    [100 * r[0] for _, r in points],
                    error_x=error_bars([_standard_error(g.clean, g.seeds) for g, _ in points]),
                    error_y=error_bars([_standard_error(r, g.seeds) for g, r in points]),
                    text=[g.budget for g, _ in points],
                    hovertemplate="%{text}<br>clean %{x:.1f}, robust %{y:.1f}",
                )
            )
        where = f"{captions[setting]}{setting.objective}, {describe_share(setting.fraction)}"
        caption = f"{where}: accuracy at eps {format_eps(eps)} against clean accuracy"
        figures.append(
            Figure(caption, data, axes_layout("clean accuracy, %", f"robust accuracy at eps {format_eps(eps)}, %"))
        )
    return figures


def _largest_budget(groups: Sequence[Group]) -> list[Group]:
    """The group of the largest budget for each method and setting."""
    largest: dict[tuple[str, Setting], Group] = {}
    for group in groups:
        key = (group.method, group.setting)
        if key not in largest or int(group.budget.split()[0]) > int(largest[key].budget.split()[0]):
            largest[key] = group
    return list(largest.values())


def describe_fractions(groups: Sequence[Group]) -> list[Section]:
    """Accuracy against the fraction kept, where there are several."""
    groups = [group for group in groups if group.fraction != OWN_SHARE]
    if len({group.fraction for group in groups if group.method != FULL}) < 2:
        return []
    numbers = _method_numbers(groups)
    figures = []
    captions = {setting.pooled: caption for setting, caption in _captions(groups).items()}
    for pooled, caption in captions.items():
        same = [
            group for group in groups if pooled.holds(group.setting._replace(fraction=pooled.fraction), group.method)
        ]
        matching = _largest_budget(same)
        eps = sorted({key[1] for group in matching for key in group.robust})
        for name, attacked_eps in [("clean", None), *((f"eps {format_eps(e)}", e) for e in eps)]:
            data = []
            for method in dict.fromkeys(group.method for group in matching):
                points = sorted(
                    (g.fraction, g.clean if attacked_eps is None else g.accuracy_at(attacked_eps), g.seeds)
                    for g in matching
                    if g.method == method
                )
                points = [(f, accuracy, n) for f, accuracy, n in points if accuracy is not None]
                x = [100 * f for f, _, _ in points]
                y = [100 * v[0] for _, v, _ in points]
                data.append(
                    line_trace(
                        method, numbers[method], x, y, error_y=error_bars([_standard_error(v, n) for _, v, n in points])
                    )
                )
            figures.append(
                Figure(
                    f"{caption}{pooled.objective}: accuracy, {name}, against the fraction kept",
                    data,
                    axes_layout("kept, %", f"accuracy, {name}, %"),
                )
            )
    return [Section("Accuracy against the fraction kept", figures=figures)]


def draw_curves(groups: Sequence[Group]) -> list[Figure]:
    """Accuracy over eps, at the largest budgets."""
    numbers = _method_numbers(groups)
    figures = []
    captions = _captions(groups)
    for setting, in_setting in _settings(groups).items():
        data = []
        for group in _largest_budget(in_setting):
            eps = sorted({key[1] for key in group.robust})
            points = [(0.0, group.clean), *((e, at) for e in eps if (at := group.accuracy_at(e)) is not None)]
            data.append(
                line_trace(
                    f"{group.method}, {group.budget}",
                    numbers[group.method],
                    [e for e, _ in points],
                    [100 * v[0] for _, v in points],
                    error_y=error_bars([_standard_error(v, group.seeds) for _, v in points]),
                )
            )
        where = f"{captions[setting]}{setting.objective}, {describe_share(setting.fraction)}"
        caption = f"{where}: accuracy under attack over eps, largest budgets"
        figures.append(Figure(caption, data, eps_layout(eps for curve in data for eps in curve["x"])))
    return figures


def draw_cost(results: pa.Table) -> Figure:
    """Each cell's seconds and robust accuracy."""
    rows = [row for row in results.to_pylist() if row["eps"] == row["main"] and not row["strong"]]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(["random", *(row["method"] for row in rows)]))}
    data = []
    for method in dict.fromkeys(row["method"] for row in rows):
        by_cell = {row["cell"]: row for row in rows if row["method"] == method}.values()
        data.append(
            line_trace(
                method,
                numbers[method],
                [row["seconds"] for row in by_cell],
                [100 * row["accuracy"] for row in by_cell],
                mode="markers",
            )
        )
    total = sum(row["seconds"] for row in {row["cell"]: row for row in rows}.values())
    caption = (
        "each cell's seconds (selection, training and evaluation, without scoring runs) and robust accuracy; "
        f"{format_duration(total)} in all"
    )
    return Figure(caption, data, axes_layout("seconds", "robust accuracy at the main eps, %"))
