"""Reports: one offline HTML page about the contents of a folder."""

import os
from pathlib import Path

from easycoreset.errors import UsageError
from easycoreset.file_lists import FileList
from easycoreset.files import write_atomic
from easycoreset.options import ReportOptions, accept_options
from easycoreset.reporting.analysis import describe_analysis
from easycoreset.reporting.audit import describe_audit
from easycoreset.reporting.comparison_report import describe_comparison
from easycoreset.reporting.contrasts import CONTRASTS_FILE, write_contrasts
from easycoreset.reporting.page import Section, render
from easycoreset.reporting.run_report import describe_run
from easycoreset.reporting.score_report import describe_scores
from easycoreset.reporting.training_report import describe_evaluation, describe_reproduction, describe_training

__all__ = ["Section", "check_page_writable", "report"]

PAGE = "report.html"
LEDGER = "report"  # apart from the file list of the run that wrote the folder
TITLE = "easycoreset: "

DESCRIBERS = {
    "comparison.json": describe_run,
    "results.parquet": describe_comparison,
    "analysis.json": describe_analysis,
    "audit.parquet": describe_audit,
    "scores.parquet": describe_scores,
    "history.jsonl": describe_training,
    "evaluation.json": describe_evaluation,
}


@accept_options(ReportOptions)
def report(options: ReportOptions) -> Path:
    """Write `report.html` into a folder that a command wrote; for a comparison also `contrasts.json`.

    Returns:
        The page's path.

    Raises:
        UsageError: the folder holds nothing to report on.
    """
    folder = options.out
    check_page_writable(folder)
    sections = [
        section for file, describe in DESCRIBERS.items() if (folder / file).exists() for section in describe(folder)
    ]
    if not sections:
        raise UsageError(f"out: {folder} holds nothing to report on: none of {', '.join(DESCRIBERS)}")
    with FileList(folder, LEDGER).active():
        if (folder / "results.parquet").exists():
            write_contrasts(folder)
        sections += describe_reproduction(folder)
        html = render(f"{TITLE}{folder.resolve().name}", sections)
        write_atomic(folder / PAGE, lambda path: path.write_text(html, encoding="utf-8"))
    return folder / PAGE


def check_page_writable(folder: Path) -> None:
    """Refuse a folder in which `report` did not write `report.html` or `contrasts.json`, or in which they were changed.

    Raises:
        UsageError: one of these files is in the way.
    """
    file_list = FileList(folder, LEDGER)
    for name in (PAGE, *([CONTRASTS_FILE] if (folder / "results.parquet").exists() else ())):
        if os.path.lexists(folder / name) and not file_list.is_unchanged_own_file(folder / name):
            raise UsageError(
                f"out: {folder / name} is in the way: `report` did not write it (or version 0.1 did, which "
                "kept no file list), or it was changed afterwards; move it"
            )
