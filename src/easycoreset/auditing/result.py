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
        table: one row per sample, as in `audit.parquet`.
        summary: how many samples are likely mislabelled, there twice, in the test split too, and by which columns.
        out: the folder of the audit, from which `report` writes its page.
    """

    table: pa.Table
    summary: dict[str, Any]
    out: Path

    def __len__(self) -> int:
        """The number of samples."""
        return self.table.num_rows

    def __repr__(self) -> str:
        """The counts, in one line."""
        found = self.summary
        suspects = "an unknown number" if found["likely_mislabelled"] is None else found["likely_mislabelled"]
        return (
            f"Audit of {len(self)} samples: {suspects} likely mislabelled, {found['duplicates']} duplicates, "
            f"{found['also_in_test']} also in the test split"
        )

    def _repr_html_(self) -> str:
        return load_attribute("result", "easycoreset.reporting.notebook:show_audit")(self)

    def plot(self) -> Any:
        """A plotly figure: the column that flags likely wrong labels, and which samples it flags."""
        return load_attribute("result", "easycoreset.reporting.notebook:plot_audit")(self)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame, one row per sample (needs the extra `pandas`)."""
        return to_pandas(self.table)
