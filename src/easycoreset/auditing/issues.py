"""All issues of a data set as one table: a row for each kind of issue of each picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.auditing.duplicates import Copies
from easycoreset.data import Source, Split

LABEL = "label"
DOUBTFUL = "doubtful label"
LEAK = "leak"
SEEN = "seen in training"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near duplicate"
ODD = "odd one out"
UNREADABLE = "unreadable"
KINDS = (  # in the order in which they are shown
    LABEL,
    LEAK,
    SEEN,
    DUPLICATE,
    NEAR_DUPLICATE,
    UNREADABLE,
    ODD,
    "blurred",
    "dark",
    "bright",
    "low information",
    "odd size",
    DOUBTFUL,  # not counted as an issue, but listed after the labels that are called wrong
)
COLUMNS = {
    "kind": pa.string(),
    "part": pa.string(),
    "index": pa.int64(),
    "sample_id": pa.string(),
    "label_name": pa.string(),
    "score": pa.float32(),
    "suggestion": pa.string(),
    "other_part": pa.string(),
    "other_index": pa.int64(),
    "group": pa.int64(),
}


@dataclass(frozen=True)
class Part:
    """A part of the data set, whose rows begin at `start` among those of all parts."""

    split: Split
    start: int

    @property
    def rows(self) -> slice:
        """Its rows among those of all parts."""
        return slice(self.start, self.start + len(self.split))


class IssueTable:
    """Collects issues, row by row.

    Args:
        source: the data set.
        parts: its parts in the order of the rows.
    """

    def __init__(self, source: Source, parts: Sequence[Part]) -> None:
        self.names = list(source.class_names)
        self.parts = parts
        self.lines: list[dict[str, Any]] = []

    def add(self, kind: str, part: Part, row: int, score: float, **more: Any) -> None:
        """Add an issue of the sample `row` of a part."""
        split = part.split
        facts = {"kind": kind, "part": split.name, "index": row, "sample_id": split.sample_ids[row]}
        self.lines.append({**facts, "label_name": self.names[split.labels[row]], "score": score, **more})

    def add_marked(self, kind: str, part: Part, score: npt.NDArray[np.floating], named: npt.NDArray[np.bool_]) -> None:
        """Add an issue with its `score` [N] for each sample that `named` [N] marks."""
        for row in np.flatnonzero(named).tolist():
            self.add(kind, part, row, float(score[row]))

    def add_labels(
        self, kind: str, part: Part, rows: Sequence[int], suspicion: npt.NDArray[np.floating], p: npt.NDArray[Any]
    ) -> None:
        """Add labels that may be wrong, and the class that the judge suggests instead."""
        for row in rows:
            label = part.split.labels[row]
            others = np.where(np.arange(len(self.names)) == label, -1, p[row])
            self.add(kind, part, row, float(suspicion[row]), suggestion=self.names[int(others.argmax())])

    def add_copies(self, copies: Copies) -> None:
        """Add training pictures that are in the test part too, and pictures that are copies within a part.

        If a group has pictures in both parts, each of its training pictures is a leak.
        """
        is_leaked = set[int]()
        for part in self.parts:
            if part.split.name == "test":
                is_leaked |= set(copies.group[part.rows][copies.group[part.rows] >= 0].tolist())
        for row in np.flatnonzero(copies.original >= 0).tolist():
            part, own_row = self._find(row)
            other, other_row = self._find(int(copies.original[row]))
            leak = part.split.name == "train" and int(copies.group[row]) in is_leaked and other.split.name == "test"
            kind = LEAK if leak else DUPLICATE if copies.exact[row] else NEAR_DUPLICATE
            where = {"other_part": other.split.name, "other_index": other_row}
            self.add(kind, part, own_row, float(copies.similarity[row]), group=int(copies.group[row]), **where)

    def add_unreadable(self, lines: Sequence[str]) -> None:
        """Add files that cannot be read, which are in no part."""
        self.lines += [{"kind": UNREADABLE, "sample_id": line, "score": 1.0} for line in lines]

    def _find(self, row: int) -> tuple[Part, int]:
        """Find the part that a row of all parts together belongs to, and its row in this part."""
        part = next(part for part in self.parts if row < part.rows.stop)
        return part, row - part.start

    def table(self) -> pa.Table:
        """The issues by kind, those of the highest score first."""
        order = {kind: number for number, kind in enumerate(KINDS)}
        lines = sorted(self.lines, key=lambda line: (order[line["kind"]], -line["score"], line["sample_id"]))
        return pa.table({name: pa.array([line.get(name) for line in lines], kind) for name, kind in COLUMNS.items()})


def count_kinds(table: pa.Table) -> dict[str, dict[str, int]]:
    """Kind -> part -> number of issues; unreadable files are counted under "files"."""
    counts: dict[str, dict[str, int]] = {}
    for line in table.select(["kind", "part"]).to_pylist():
        of_kind = counts.setdefault(line["kind"], {})
        of_kind[line["part"] or "files"] = of_kind.get(line["part"] or "files", 0) + 1
    return counts
