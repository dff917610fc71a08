"""Results of `compare` and `demo` on standard output."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from easycoreset.cli.output import add_row, print_line, print_table, printed_as_json
from easycoreset.console import format_duration, format_eps, format_objective, format_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from easycoreset.statistics import Group
    from easycoreset.workflow.declared import DeclaredContrasts


def show_estimate(estimate: dict[str, Any]) -> None:
    """Show the estimate of `compare --dry-run`."""
    if printed_as_json(estimate):
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in estimate["kinds"].items())
    counts = f"{estimate['missing']} of {estimate['steps']} steps are missing"
    print_line(f"{counts}: {kinds}; {estimate['updates']} updates" if kinds else counts)
    if estimate["again"]:
        print_line(f"{estimate['again']} of them are done again, because their weights were discarded")
    duration = format_duration(estimate["seconds"])
    needs = f"{estimate['memory_gb']} GB of memory, {estimate['disk_gb']} GB of disk"
    print_line(f"at most {duration} with {estimate['workers']} workers, {needs}")


def show_declared(declared: "DeclaredContrasts", folder: Path) -> None:
    """Show the contrasts that `compare --preregister` declared."""
    rows = [contrast.to_json() | {"primary": contrast == declared.primary} for contrast in declared.contrasts]
    if printed_as_json({"declared": rows, "file": str(folder / "plan.json")}):
        return
    table = Table("contrast", "compared at", "objective", "kept", "eps", "budget", "seeds", title="declared contrasts")
    for contrast in declared.contrasts:
        name = f"{contrast.method} vs {contrast.against}" + " (primary)" * (contrast == declared.primary)
        budget = f"{contrast.size} {contrast.unit}"
        setting = (contrast.objective, format_percent(contrast.fraction), format_eps(contrast.eps), budget)
        add_row(table, name, contrast.kind, *setting, str(len(contrast.seeds)))
    print_table(table)
    print_line(folder / "plan.json")


def show_comparison(folder: Path) -> None:
    """Show the results of `compare`."""
    from easycoreset.parquet import read_table
    from easycoreset.records import read_record

    results = read_table(folder / "results.parquet", {})
    contrasts = read_record(folder / "contrasts.json")["contrasts"]
    if not printed_as_json({"results": results.to_pylist(), "contrasts": contrasts, "folder": str(folder)}):
        print_table(results_table(results))
        print_line(folder / "results.parquet")
        print_line(folder / "report.html")


def show_demo(results: "pa.Table", folder: Path) -> None:
    """Show the demo's table and advice."""
    from easycoreset.reporting.advice import advise
    from easycoreset.reporting.contrasts import measure_contrasts
    from easycoreset.statistics import group_results

    groups = group_results(results)
    advice = advise(measure_contrasts(folder, results), groups)
    if printed_as_json({"results": results.to_pylist(), "says": advice, "folder": str(folder)}):
        return
    print_table(group_table(groups))
    print_line(advice)
    print_line(f"{groups[0].seeds} seeds on 8x8 digits: a first look, not a finding.")
    print_line(
        f"\nresults: {folder / 'results.parquet'}; each step with its model, coreset or outcomes: {folder / 'steps'}/"
    )
    print_line(f"the page: {folder / 'report.html'}")
    print_line("your own data next:  easycoreset score --data FOLDER --epochs 15 --out runs/mine")
    print_line(
        "then:                easycoreset select --scores runs/mine/scores.parquet --fraction 0.5 --out half.parquet"
    )


def results_table(results: "pa.Table") -> Table:
    """The table of the results so far."""
    from easycoreset.statistics import group_results

    return group_table(group_results(results))


def group_table(groups: "Sequence[Group]") -> Table:
    """A table of the accuracies of all groups, mean and standard deviation over seeds."""
    from easycoreset.statistics.settings import differing_fields

    eps = sorted({key[1] for group in groups for key in group.robust})
    several_budgets = len({group.budget for group in groups}) > 1
    fields = differing_fields(group.setting for group in groups)
    columns = [
        *fields,
        "objective",
        "kept",
        "method",
        *["budget"] * several_budgets,
        "seeds",
        "clean",
        *[f"eps {format_eps(e)}" for e in eps],
    ]
    table = Table(*columns, title="accuracy in %, mean ± standard deviation over seeds")
    last_block = None
    for group in groups:
        block = (group.objective, group.fraction)
        if last_block not in (None, block):
            table.add_section()
        last_block = block
        objective = format_objective(group.objective, (g.objective for g in groups))
        add_row(
            table,
            *(_format_field(getattr(group, name)) for name in fields),
            objective,
            format_percent(group.fraction),
            group.method,
            *[group.budget] * several_budgets,
            str(group.seeds),
            _format_mean_std(group.clean),
            *[_format_mean_std(group.accuracy_at(e)) for e in eps],
        )
    return table


def _format_field(value: str | None) -> str:
    """A part of a setting: options off their defaults, or what takes no part."""
    return "-" if value is None else value or "defaults"


def _format_mean_std(figures: tuple[float, float] | None) -> str:
    if figures is None:
        return "-"
    return f"{100 * figures[0]:.1f}" + (f" ± {100 * figures[1]:.1f}" if figures[1] == figures[1] else "")
