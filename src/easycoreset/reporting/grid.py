"""The report of a comparison: the verdict first, then what it rests on."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow as pa

from easycoreset.console import say_duration, say_eps, say_share
from easycoreset.records import read_record
from easycoreset.reporting.contrasts import contrast_table, contrasts_of, read_experiment, read_results, tell_verdicts
from easycoreset.reporting.page import COLOURS, Figure, Grid, Section, axes, errors, line, over_eps
from easycoreset.reporting.samples import describe_scores
from easycoreset.reporting.second import describe_second
from easycoreset.statistics import ENOUGH_SEEDS, Contrast, Group, group_results


def describe_grid(folder: Path) -> list[Section]:
    """The sections of an experiment's folder."""
    results = read_results(folder)
    if not results.num_rows:
        return [Section("Results", ["No cell is finished yet."])]
    record, contrasts = read_experiment(folder), contrasts_of(folder, results)
    groups = group_results(results)
    cells = {name: read_record(folder / "cells" / name / "cell.json") for name in _cells(results)}
    return [
        _verdict(results, contrasts, groups, record.get("planned")),
        Section("Clean against robust accuracy", [FRONTIER], figures=_frontiers(results, groups)),
        *_by_fraction(groups),
        Section("Robustness over eps", figures=_curves_over_eps(groups)),
        _setting(results, cells),
        Section("Cost", figures=[_cost(results)]),
        Section("All results", tables=[_table(groups, results)]),
        *describe_second(cells),
        Section("Every contrast with random", [EXPLORATORY], tables=[contrast_table(contrasts)], folded=True),
        _class_counts(results, cells),
        *_hardness(folder, groups),
        _warnings(cells),
    ]


def _setting(results: pa.Table, cells: dict[str, dict[str, Any]]) -> Section:
    """What was trained and attacked, and how."""
    rows = results.to_pylist()
    points = [f"Data {', '.join(_distinct(rows, 'data'))}; model {', '.join(_distinct(rows, 'model'))}."]
    options = next(iter(cells.values()))["options"]
    names = ("scoring_epochs", "batch_size", "lr", "weight_decay", "schedule")
    points.append(f"Training: {', '.join(f'{name} {options[name]}' for name in names if name in options)}.")
    for objective in _distinct(rows, "objective"):
        head, given = objective.partition(":")[::2]
        if head != "standard" and "." not in head and "eps=" not in given:
            points.append(f"{objective} was trained at its own default radius, 8/255.")
    for name, fields in {n: f for cell in cells.values() for n, f in cell.get("attacks", {}).items()}.items():
        points.append(f"Attack {name}: {', '.join(f'{key} {_short(value)}' for key, value in fields.items())}.")
    sizes = {(row["eps"], row["samples"]) for row in rows}
    if len({size for _, size in sizes}) > 1:
        told = ", ".join(f"{size} at eps {say_eps(eps)}" for eps, size in sorted(sizes))
        points.append(f"The accuracies rest on different numbers of test images: {told}.")
    return Section("Setting", points=points)


def _distinct(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(str(row[name]) for row in rows))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


FRONTIER = (
    "Training less also raises robustness at small eps and lowers clean accuracy: a method is better only where it "
    "lies above random's line. Bars are standard errors over seeds."
)
EXPLORATORY = (
    "Those that were not declared before the run are exploratory: many of them are looked at, and p is not corrected."
)


def _hardness(folder: Path, groups: Sequence[Group]) -> list[Section]:
    """One of the scoring runs, where they are still there."""
    scored = next(iter(sorted((folder / "scores").glob("*/scores.parquet"))), None)
    fractions = sorted({group.fraction for group in groups if group.fraction < 1})
    return [] if scored is None else describe_scores(scored.parent, fractions)


def _cells(results: pa.Table) -> list[str]:
    return list(dict.fromkeys(results["cell"].to_pylist()))


def _verdict(results: pa.Table, contrasts: Sequence[Contrast], groups: Sequence[Group],
             planned: int | None) -> Section:  # fmt: skip
    seeds = min(group.seeds for group in groups)
    declared = tell_verdicts([contrast for contrast in contrasts if contrast.declared])
    many = f"{seeds} seed{'s' * (seeds > 1)}"
    intro = f"{len(_cells(results))} cells of {len({g.method for g in groups})} methods, at least {many} each."
    if planned is not None and len(_cells(results)) < planned:
        intro += f" {planned} cells are planned: all of this is provisional."
    if seeds < ENOUGH_SEEDS:
        intro += f" Fewer than {ENOUGH_SEEDS} seeds: a first look, not a finding."
    if not declared:
        intro += " No contrast with random can be tested yet."
    return Section("Verdict", [intro], points=declared)


def _places(groups: Sequence[Group]) -> list[tuple[str, float]]:
    return list(dict.fromkeys((g.objective, g.fraction) for g in groups if g.method != "full"))


def _methods(groups: Sequence[Group]) -> dict[str, int]:
    """Each method's own colour and symbol throughout the page; random's is the first."""
    names = dict.fromkeys(["random", *(group.method for group in groups)])
    return {name: place for place, name in enumerate(names)}


def _at_place(groups: Sequence[Group], objective: str, fraction: float) -> list[Group]:
    return [g for g in groups if g.objective == objective and (g.fraction == fraction or g.method == "full")]


def _standard_error(figures: tuple[float, float], seeds: int) -> float:
    return 100 * figures[1] / seeds**0.5


def _frontiers(results: pa.Table, groups: Sequence[Group]) -> list[Figure]:
    mains = {row["objective"]: row["main"] for row in results.select(["objective", "main"]).to_pylist()}
    colours, figures = _methods(groups), []
    for objective, fraction in _places(groups):
        eps, data = mains[objective], []
        own = [(g, figures_at) for g in _at_place(groups, objective, fraction) if (figures_at := g.at(eps)) is not None]
        for method in dict.fromkeys(group.method for group, _ in own):
            points = sorted(((g, r) for g, r in own if g.method == method), key=lambda pair: pair[0].clean[0])
            data.append(line(
                method, colours[method], [100 * g.clean[0] for g, _ in points], [100 * r[0] for _, r in points],
                error_x=errors([_standard_error(g.clean, g.seeds) for g, _ in points]),
                error_y=errors([_standard_error(r, g.seeds) for g, r in points]),
                text=[g.budget for g, _ in points], hovertemplate="%{text}<br>clean %{x:.1f}, robust %{y:.1f}",
            ))  # fmt: skip
        caption = f"{objective}, {say_share(fraction)} kept: accuracy at eps {say_eps(eps)} against clean accuracy"
        figures.append(Figure(caption, data, axes("clean accuracy, %", f"robust accuracy at eps {say_eps(eps)}, %")))
    return figures


def _largest_budget(groups: Sequence[Group]) -> list[Group]:
    """Of each method, objective and fraction the group of the largest budget."""
    best: dict[tuple[str, str, float], Group] = {}
    for group in groups:
        key = (group.method, group.objective, group.fraction)
        if key not in best or int(group.budget.split()[0]) > int(best[key].budget.split()[0]):
            best[key] = group
    return list(best.values())


def _by_fraction(groups: Sequence[Group]) -> list[Section]:
    if len({group.fraction for group in groups if group.method != "full"}) < 2:
        return []
    colours, figures = _methods(groups), []
    for objective in dict.fromkeys(group.objective for group in groups):
        own = [group for group in _largest_budget(groups) if group.objective == objective]
        eps = sorted({key[1] for group in own for key in group.robust})
        for name, pick in [("clean", None), *((f"eps {say_eps(e)}", e) for e in eps)]:
            data = []
            for method in dict.fromkeys(group.method for group in own):
                points = sorted(
                    (g.fraction, g.clean if pick is None else g.at(pick), g.seeds) for g in own if g.method == method
                )
                points = [(f, figures_at, n) for f, figures_at, n in points if figures_at is not None]
                x, y = [100 * f for f, _, _ in points], [100 * v[0] for _, v, _ in points]
                data.append(line(method, colours[method], x, y,
                                 error_y=errors([_standard_error(v, n) for _, v, n in points])))  # fmt: skip
            figures.append(Figure(f"{objective}: accuracy, {name}, against the fraction kept", data,
                                  axes("kept, %", f"accuracy, {name}, %")))  # fmt: skip
    return [Section("Accuracy against the fraction kept", figures=figures)]


def _curves_over_eps(groups: Sequence[Group]) -> list[Figure]:
    colours, figures = _methods(groups), []
    for objective, fraction in _places(groups):
        data = []
        for group in _largest_budget(_at_place(groups, objective, fraction)):
            eps = sorted({key[1] for key in group.robust})
            found = [(0.0, group.clean), *((e, at) for e in eps if (at := group.at(e)) is not None)]
            data.append(line(f"{group.method}, {group.budget}", colours[group.method], [e for e, _ in found],
                             [100 * v[0] for _, v in found],
                             error_y=errors([_standard_error(v, group.seeds) for _, v in found])))  # fmt: skip
        caption = f"{objective}, {say_share(fraction)} kept: accuracy under attack over eps, largest budgets"
        figures.append(Figure(caption, data, over_eps(eps for curve in data for eps in curve["x"])))
    return figures


def _cost(results: pa.Table) -> Figure:
    rows = [row for row in results.to_pylist() if row["eps"] == row["main"]]
    names = {name: place for place, name in enumerate(dict.fromkeys(["random", *(row["method"] for row in rows)]))}
    data = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["cell"]: row for row in rows if row["method"] == method}.values()
        data.append(line(method, names[method], [row["seconds"] for row in own], [100 * row["accuracy"] for row in own],
                         mode="markers"))  # fmt: skip
    total = sum(row["seconds"] for row in {row["cell"]: row for row in rows}.values())
    caption = (
        "each cell's seconds (selection, training, evaluation; scoring runs apart) and robust accuracy; "
        f"{say_duration(total)} in all"
    )
    return Figure(caption, data, axes("seconds", "robust accuracy at the main eps, %"))


def _selection_costs(results: pa.Table) -> dict[tuple[str, float], list[float | None]]:
    """(method, fraction) -> mean seconds and mean MB of its selections, over all its cells."""
    cells = {row["cell"]: row for row in results.to_pylist()}.values()
    found: dict[tuple[str, float], list[float | None]] = {}
    for key in {(row["method"], row["fraction"]) for row in cells}:
        own = [row for row in cells if (row["method"], row["fraction"]) == key]
        known = [[row[name] for row in own if row.get(name) is not None] for name in SELECTION]
        found[key] = [round(sum(values) / len(values), 3) if values else None for values in known]
    return found


SELECTION = ("selection_seconds", "selection_mb")


def _table(groups: Sequence[Group], results: pa.Table) -> Grid:
    eps = sorted({key[1] for group in groups for key in group.robust})
    columns = [
        "objective",
        "kept",
        "method",
        "budget",
        "seeds",
        "clean",
        "±",
        *(c for e in eps for c in (f"eps {say_eps(e)}", "±")),
        "selection, s",
        "selection, MB",
    ]
    costs, rows = _selection_costs(results), []
    for group in groups:
        figures = [group.clean, *(group.at(e) for e in eps)]
        pairs = [(None, None) if f is None else (round(100 * f[0], 2), _rounded(100 * f[1])) for f in figures]
        numbers = [number for pair in pairs for number in pair]
        cost = costs[group.method, group.fraction]
        rows.append([group.objective, group.fraction, group.method, group.budget, group.seeds, *numbers, *cost])
    return Grid("accuracies in %, mean and standard deviation over seeds", columns, rows)


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 2)


def _class_counts(results: pa.Table, cells: dict[str, dict[str, Any]]) -> Section:
    first = {(row["method"], row["fraction"]): row["cell"] for row in reversed(results.to_pylist()) if row["seed"] == 0}
    figures = []
    for (method, fraction), name in sorted(first.items()):
        counts = cells[name]["class_counts"]
        if method in ("random", "full") or not counts["before"]:
            continue
        classes = list(range(len(counts["before"])))
        data = [{"type": "bar", "name": label, "x": classes, "y": counts[key], "marker": {"color": COLOURS[place]}}
                for place, (label, key) in enumerate((("before", "before"), ("kept", "after")))]  # fmt: skip
        figures.append(
            Figure(
                f"{method}, {say_share(fraction)} kept, seed 0: samples of each class", data, axes("class", "samples")
            )
        )
    return Section("Classes before and after", figures=figures)


def _warnings(cells: dict[str, dict[str, Any]]) -> Section:
    longer = [(record["options"]["objective"], check) for record in cells.values() for check in record["checks"]
              if check["name"] == "longer_attack"]  # fmt: skip
    points: list[str] = []
    for objective in dict.fromkeys(objective for objective, check in longer if not check["passed"]):
        figures = [100 * check["figure"] for other, check in longer if other == objective]
        found = f"{mean(figures):.1f} points too high in the mean of {len(figures)} cells ({max(figures):.1f} at most)"
        points.append(
            f"{objective}: attacks five times as long find robust accuracy some {found}, at the radius where each was "
            "tried; try autoattack"
        )
    told = {check["message"] for _, check in longer}
    counted = Counter(text for record in cells.values() for text in record["warnings"] if text not in told)
    points += [f"{text} ({count} of {len(cells)} cells)" for text, count in counted.most_common()]
    return Section(
        "Warnings",
        [] if points else ["None: no class was emptied, and every check passed in every cell."],
        points=points,
    )
