"""What the commands that write plans show: an estimate, the declared contrasts, the results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from easycoreset.cli.output import show
from easycoreset.console import format_duration, format_eps
from easycoreset.documents import DataTable, Section, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from easycoreset.options import CompareOptions
    from easycoreset.workflow.declared import DeclaredContrasts
    from easycoreset.workflow.steps import Step

NEXT = (
    "your own data next:  easycoreset score --data FOLDER --epochs 15 --out runs/mine",
    "then:                easycoreset select --scores runs/mine/scores.parquet --fraction 0.5 --out half.parquet",
)


def show_dry_run(targets: "Sequence[Step]", options: Any, workers: int = 1) -> None:
    """Show what the missing steps of a plan cost, for `--dry-run`."""
    from easycoreset.workflow.estimate import estimate
    from easycoreset.workflow.pools import count_workers

    if options.on is None:
        processors, count = None, count_workers(options, workers, options.device) or 1
    else:
        processors, count = -(-options.workers // (options.workers_per_gpu or 1)), options.workers
    found = estimate(targets, options.out, options.device, count, processors)
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    lines = [f"{found['missing']} of {found['steps']} steps are missing"]
    lines[0] += f": {kinds}; {found['updates']} updates" if kinds else ""
    if found["again"]:
        lines.append(f"{found['again']} of them are done again, because their weights were discarded")
    needs = f"{found['memory_gb']} GB of memory, {found['disk_gb']} GB of disk"
    needs += f", {found['gpu_memory_gb']} GB of each GPU" if "gpu_memory_gb" in found else ""
    workers_text = f"{count} worker{'s' * (count > 1)}"
    lines.append(f"about {format_duration(found['seconds'])} on an idle machine, with {workers_text}; {needs}")
    show(found, [], *lines)


def show_declared(declared: "DeclaredContrasts", folder: Path) -> None:
    """Show the contrasts that `compare --preregister` declared."""
    rows = [
        [
            f"{contrast.method} vs {contrast.against}" + " (primary)" * (contrast == declared.primary),
            contrast.kind,
            contrast.objective,
            Share(contrast.fraction),
            format_eps(contrast.eps),
            f"{contrast.size} {contrast.unit}",
            len(contrast.seeds),
        ]
        for contrast in declared.contrasts
    ]
    columns = ["contrast", "compared at", "objective", "kept", "eps", "budget", "seeds"]
    values = [contrast.to_json() | {"primary": contrast == declared.primary} for contrast in declared.contrasts]
    table = DataTable("declared contrasts", columns, rows)
    file = folder / "plan.json"
    show({"declared": values, "file": str(file)}, [Section("Declared contrasts", tables=[table], brief=True)], file)


def run_grid(options: "CompareOptions", *lines: object) -> None:
    """Run a grid, and show its results and the lines."""
    from easycoreset.documents.terminal import to_rich
    from easycoreset.errors import GridError
    from easycoreset.reporting import check_page_writable, write_report
    from easycoreset.reporting.best_epochs import without_best_epochs
    from easycoreset.reporting.comparison_report import summarise_groups
    from easycoreset.statistics import group_results
    from easycoreset.workflow.comparing import run_comparison

    folder = options.out
    check_page_writable(folder)
    try:
        results = run_comparison(
            options, render_progress=lambda table: to_rich(summarise_groups(group_results(without_best_epochs(table))))
        )
    except GridError:  # the finished cells are still reported
        write_report(folder)
        raise
    sections = write_report(folder)
    value: dict[str, Any] = {"results": results.to_pylist(), "contrasts": read_contrasts(folder), "folder": str(folder)}
    show(value, sections, folder / "results.parquet", folder / "report.html", *lines)


def read_contrasts(folder: Path) -> list[dict[str, Any]]:
    """The contrasts that a report has written."""
    from easycoreset.records import read_record
    from easycoreset.reporting.contrasts import CONTRASTS_FILE

    return read_record(folder / CONTRASTS_FILE)["contrasts"]
