"""The pieces of work of an experiment: a scoring run before the first cell that needs it, and the cells."""

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

KINDS: tuple[FeatureKind, ...] = ("adversarial", "clean")  # the first holds the second


@dataclass(frozen=True)
class Task:
    """One piece of work: a scoring run, or a cell."""

    kind: str
    cell: Cell
    features: FeatureKind | None = None
    hardness: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the folder that it fills."""
        return self.cell.scoring_name if self.kind == "score" else self.cell.name

    @property
    def what(self) -> str:
        """For people."""
        cell = self.cell
        if self.kind == "score":
            return f"scoring of seed {cell.seed}" + (f" with {self.features} features" if self.features else "")
        return f"{cell.method} at {cell.fraction:g}, {cell.objective}, seed {cell.seed}"


@dataclass(frozen=True)
class Setting:
    """Where and how work is done.

    Attributes:
        out: the experiment's folder.
        device: of the models.
        keep_weights: whether models and coresets stay.
        num_workers: processes that decode pictures of a folder too large for memory.
        data: where the data set lies, where what the cells spell means nothing; None where it does.
        fingerprint: of its training split; empty where it is not known.
    """

    out: Path
    device: Device = "auto"
    keep_weights: bool = False
    num_workers: int = 2
    data: str | None = None
    fingerprint: str = ""

    def machine(self, cell: Cell) -> dict[str, Any]:
        """What every step of a cell's work is told of its data and the machine."""
        machine = {"num_workers": self.num_workers, "device": self.device, "threads": 1}
        return {"data": self.data or cell.data, **values_of(cell, ReadingOptions), **machine}


def is_finished(task: Task, out: Path) -> bool:
    """Whether what a piece of work makes is there."""
    if task.kind == "cell":
        return is_done(out, task.cell)
    file = scores_file(scores_folder(out, task.cell), "train")
    return is_scored(out, task.cell, task.features) and set(task.hardness) <= set(read_shape(file)[0])


def list_tasks(out: Path, missing: Sequence[Cell], cells: Sequence[Cell]) -> list[Task]:
    """The missing cells in their order, each scoring run before the first cell that needs it.

    A scoring run measures what any of the experiment's `cells` that are not done needs, whoever does them.
    """
    tasks: dict[Task, None] = {}
    begun: set[str] = set()
    wanted: dict[str, set[FeatureKind | None]] = {}
    for cell in (c for c in cells if not is_done(out, c)):
        wanted.setdefault(cell.scoring_name, set()).add(cell.needs_features)
    for cell in missing:
        name = cell.scoring_name
        if cell.needs_scores and name not in begun:
            begun.add(name)
            features: FeatureKind | None = next((kind for kind in KINDS if kind in wanted[name]), None)
            own = [c for c in missing if c.scoring_name == name and c.needs_scores]
            lacking = next((c for c in own if not is_scored(out, c, features)), None)
            if lacking is not None:
                sharing = [c for c in cells if c.scoring_name == name]
                hardness = sorted({need for c in sharing for need in c.needs_expensive})
                tasks[Task("score", lacking, features, tuple(hardness))] = None
        tasks[Task("cell", cell)] = None
    return list(tasks)
