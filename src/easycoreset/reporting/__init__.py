"""Reports: one document about the contents of a folder, as an offline HTML page, Markdown or LaTeX."""

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from easycoreset.documents import Document, Section
from easycoreset.documents.latex import render_latex
from easycoreset.documents.markdown import render_markdown
from easycoreset.documents.page import render_page
from easycoreset.errors import UsageError
from easycoreset.file_lists import FileList
from easycoreset.files import write_atomic, write_json
from easycoreset.options import ReportOptions, accept_options
from easycoreset.plan_folders import RESULTS
from easycoreset.python_objects import name_briefly
from easycoreset.reporting.analysis import describe_analysis
from easycoreset.reporting.audit import describe_audit
from easycoreset.reporting.comparison_report import ComparisonResults, describe_comparison
from easycoreset.reporting.contrasts import CONTRASTS_FILE, contrasts_record
from easycoreset.reporting.run_report import describe_run
from easycoreset.reporting.score_report import describe_scores
from easycoreset.reporting.training_report import describe_evaluation, describe_reproduction, describe_training

__all__ = ["Report", "Section", "check_page_writable", "report", "write_report"]

PAGES = {"html": "report.html", "markdown": "report.md", "latex": "report.tex"}
FILE_LIST_NAME = "report"  # its file list is separate from that of the run that wrote the folder
TITLE = "easycoreset: "
FRAME_STYLE = "width:100%;height:700px;border:1px solid #ccc"  # of a page within a notebook

DESCRIBERS = {
    "comparison.json": describe_run,
    "analysis.json": describe_analysis,
    "audit.parquet": describe_audit,
    "scores.parquet": describe_scores,
    "history.jsonl": describe_training,
    "evaluation.json": describe_evaluation,
}
RENDERERS = {"html": render_page, "markdown": render_markdown, "latex": render_latex}


@dataclass(frozen=True)
class Report:
    """A report that was written; a notebook shows the page.

    Attributes:
        path: the file of the report; if it is in the temporary folder of a result, it is deleted with the result.
        text: the content of the file.
    """

    path: Path
    text: str = field(repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        text = escape(self.text)
        if self.path.suffix != ".html":
            return f"<pre>{text}</pre>"
        return f'<iframe srcdoc="{text}" title="{escape(self.path.name)}" style="{FRAME_STYLE}"></iframe>'


@accept_options(ReportOptions)
def report(options: ReportOptions) -> Report:
    """Write `report.html` (`.md`, `.tex`) into a folder that a command wrote; for a comparison also `contrasts.json`.

    Returns:
        The report, whose `path` is its file; a notebook shows the page.

    Raises:
        UsageError: the folder holds nothing to report on, or a file of this name that `report` did not write.
    """
    write_report(options.out, options.format)
    path = options.out / PAGES[options.format]
    return Report(path, path.read_text(encoding="utf-8"))


def write_report(folder: Path, form: str = "html") -> list[Section]:
    """Write the report of a folder; returns its sections.

    Raises:
        UsageError: the folder holds nothing to report on, or the report's file is not ours.
    """
    check_page_writable(folder, form)
    files = [file for file in (RESULTS, *DESCRIBERS) if (folder / file).exists()]
    if not files:
        raise UsageError(f"out: {folder} holds nothing to report on: none of {', '.join((RESULTS, *DESCRIBERS))}")
    found = ComparisonResults(folder) if RESULTS in files else None
    sections = [] if found is None else describe_comparison(found)
    sections += [section for file in files if file != RESULTS for section in DESCRIBERS[file](folder)]
    document = Document(f"{TITLE}{folder.resolve().name}", [*sections, *describe_reproduction(folder)])
    with FileList(folder, FILE_LIST_NAME).active():
        if found is not None:
            write_json(folder / CONTRASTS_FILE, contrasts_record(found.contrasts))
        text = name_briefly(RENDERERS[form](document))
        write_atomic(folder / PAGES[form], lambda path: path.write_text(text, encoding="utf-8"))
    return sections


def check_page_writable(folder: Path, form: str = "html") -> None:
    """Refuse a folder in which `report` did not write its report or `contrasts.json`, or in which they were changed.

    Raises:
        UsageError: one of these files is in the way.
    """
    file_list = FileList(folder, FILE_LIST_NAME)
    for name in (PAGES[form], *([CONTRASTS_FILE] if (folder / RESULTS).exists() else ())):
        if os.path.lexists(folder / name) and not file_list.is_unchanged_own_file(folder / name):
            raise UsageError(
                f"out: {folder / name} is in the way: `report` did not write it (or version 0.1 did, which "
                "kept no file list), or it was changed afterwards; move it"
            )
