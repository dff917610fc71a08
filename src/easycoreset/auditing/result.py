"""The result of an audit: its table, its counts, and what a notebook shows of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.members import load_attribute
from easycoreset.parquet import to_pandas


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """The result of an audit.

    Attributes:
        table: one row per training sample, as in `audit.parquet`.
        issues: one row for each kind of issue of each picture, as in `issues.parquet`.
        summary: the number of issues of each kind, and how reliable the judge of the labels is.
        out: the folder of the audit, from which `report` writes its page.
    """

    table: pa.Table
    issues: pa.Table
    summary: dict[str, Any]
    out: Path

    def __len__(self) -> int:
        """The number of training samples."""
        return self.table.num_rows

    def __repr__(self) -> str:
        """The counts, in one line."""
        counts = {kind: sum(parts.values()) for kind, parts in self.summary["issues"].items()}
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        return f"Audit of {sum(self.summary['samples'].values())} pictures: {said or 'no issue'}"

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_audit")(self)

    def plot(self) -> Any:
        """A plotly histogram of the probability that a label is wrong; labels called wrong have another colour."""
        return load_attribute("result", "easycoreset.reporting.notebook:plot_audit")(self)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame, one row per sample (needs the extra `pandas`).

        Raises:
            UsageError: pandas is not installed.
        """
        return to_pandas(self.table)
