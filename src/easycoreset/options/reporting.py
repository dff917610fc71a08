"""Options of `report`."""

from dataclasses import dataclass, field
from typing import Literal

from easycoreset.errors import require
from easycoreset.options.groups import CommandOptions
from easycoreset.options.objects import FOLDER, GivenPath


@dataclass(frozen=True, kw_only=True)
class ReportOptions(CommandOptions):
    """Options of `report`."""

    out: GivenPath = field(metadata=FOLDER)
    """Folder of results; the report is written into it."""
    format: Literal["html", "markdown", "latex"] = "html"
    """html: one offline page, report.html; markdown: report.md, without figures; latex: report.tex, the tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.out.is_dir(), "out", "a folder that a command wrote", str(self.out))
