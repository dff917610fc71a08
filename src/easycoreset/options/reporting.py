"""Options of `report`."""

from dataclasses import dataclass
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.groups import CommandOptions


@dataclass(frozen=True, kw_only=True)
class ReportOptions(CommandOptions):
    """Options of `report`."""

    out: Path
    """Folder of results; report.html is written into it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.out.is_dir(), "out", "a folder that a command wrote", str(self.out))
