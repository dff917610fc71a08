"""The tasks of an experiment: its cells, and each scoring run before the first cell that needs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easycoreset.experiment.cells import Cell
from easycoreset.experiment.results import is_done, is_scored, scores_folder
from easycoreset.options import Device, ReadingOptions, values_of
from easycoreset.parquet import read_shape
from easycoreset.scoring import scores_file
from easycoreset.scoring.needs import FeatureKind

FEATURE_KINDS: tuple[FeatureKind, ...] = ("adversarial", "clean")  # the first includes the second


@dataclass(frozen=True)
class Task:
    """One task: a scoring run or a cell.

    Attributes:
        kind: `score` or `cell`.
        cell: the cell; for a scoring run, one of the cells that read its scores.
        features: the kind of features that a scoring run saves; None for none.
        hardness: the expensive hardness columns that a scoring run measures.
    """

    kind: str
    cell: Cell
    features: FeatureKind | None = None
    hardness: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder that the task writes."""
        return self.cell.scoring_name if self.kind == "score" else self.cell.name

    @property
    def description(self) -> str:
        """A description for messages."""
        cell = self.cell
        if self.kind == "score":
            return f"scoring of seed {cell.seed}" + (f" with {self.features} features" if self.features else "")
        return f"{cell.method} at {cell.fraction:g}, {cell.objective}, seed {cell.seed}"


@dataclass(frozen=True)
class RunSettings:
    """Where and how tasks are run.

    Attributes:
        out: the experiment's folder.
        device: device of the models.
        keep_weights: whether models and coresets are kept.
        num_workers: processes that decode images if the folder is too large for memory.
        data: path of the data set on machines where the cells' relative `data` is not valid; None elsewhere.
        fingerprint: fingerprint of the training split; empty if unknown.
    """

    out: Path
    device: Device = "auto"
    keep_weights: bool = False
    num_workers: int = 2
    data: str | None = None
    fingerprint: str = ""

    def step_options(self, cell: Cell) -> dict[str, Any]:
        """The options of data and machine for every step of a cell."""
        machine = {"num_workers": self.num_workers, "device": self.device, "threads": 1}
        return {"data": self.data or cell.data, **values_of(cell, ReadingOptions), **machine}


def is_finished(task: Task, out: Path) -> bool:
    """Whether the result of a task exists."""
    if task.kind == "cell":
        return is_done(out, task.cell)
    file = scores_file(scores_folder(out, task.cell), "train")
    return is_scored(out, task.cell, task.features) and set(task.hardness) <= set(read_shape(file)[0])


def list_tasks(out: Path, missing: Sequence[Cell], cells: Sequence[Cell]) -> list[Task]:
    """The missing cells in their order, each scoring run before the first cell that needs it.

    A scoring run measures the hardness that any of `cells`, all cells of the experiment, needs; it saves the features
    that those of them need that are not done.
    """
    tasks: dict[Task, None] = {}
    planned: set[str] = set()
    kinds_needed: dict[str, set[FeatureKind | None]] = {}
    for cell in (c for c in cells if not is_done(out, c)):
        kinds_needed.setdefault(cell.scoring_name, set()).add(cell.needs_features)
    for cell in missing:
        name = cell.scoring_name
        if cell.needs_scores and name not in planned:
            planned.add(name)
            features: FeatureKind | None = next((kind for kind in FEATURE_KINDS if kind in kinds_needed[name]), None)
            users = [c for c in missing if c.scoring_name == name and c.needs_scores]
            unscored = next((c for c in users if not is_scored(out, c, features)), None)
            if unscored is not None:
                sharing = [c for c in cells if c.scoring_name == name]
                hardness = sorted({column for c in sharing for column in c.needs_expensive})
                tasks[Task("score", unscored, features, tuple(hardness))] = None
        tasks[Task("cell", cell)] = None
    return list(tasks)
