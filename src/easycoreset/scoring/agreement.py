"""How far a cheaper score agrees with the exact one: online against exact, few epochs against all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from easycoreset.console import log
from easycoreset.data.draws import seed_of
from easycoreset.errors import UsageError, require
from easycoreset.folders import RunFolder
from easycoreset.hardness import Hardness, load_hardness
from easycoreset.options import ScoreOptions
from easycoreset.parquet import read_table
from easycoreset.scoring.measures import Measures, per_epoch
from easycoreset.scoring.passes import measure_split, measured_in, write_trajectory
from easycoreset.tables import Ints, Scores
from easycoreset.tables.agreement import Agreement, agree
from easycoreset.training import Job


@dataclass(frozen=True)
class Agreements:
    """An exact pass over some samples after each scored epoch of an online run.

    Attributes:
        job: data and device.
        options: of the run.
        measures: that are recorded online.
        rows: the samples.
        folder: holds the exact trajectory.
    """

    job: Job
    options: ScoreOptions
    measures: Sequence[Hardness]
    rows: Ints
    folder: Path

    @classmethod
    def of(cls, job: Job, options: ScoreOptions, measures: Measures, run: RunFolder) -> "Agreements | None":
        """For a run, unless its options say no."""
        if not options.agreement:
            return None
        rng = np.random.default_rng(seed_of(options.seed, "agreement"))
        rows = np.sort(rng.permutation(job.index)[: options.agreement]).astype(np.int64)
        return cls(job, options, per_epoch(measures), rows, run.path / "agreement")

    def look(self, number: int, model: nn.Module) -> None:
        """Measure the samples exactly after an epoch."""
        now = measured_in(number, self.options.scored_epochs(), self.measures)
        columns = measure_split(self.job, self.options, model, now, self.job.split, number, self.rows)
        write_trajectory(self.folder, number, columns)

    def tell(self, scores: Scores) -> dict[str, Any]:
        """Compare the online columns with the exact ones, and say so; returns JSON values."""
        found: dict[str, Any] = {}
        labels = self.job.split.labels[self.rows]
        for name, exact in fold_columns(self.folder, self.measures).items():
            online = f"{name}_online"
            online = online if online in scores.columns else online.replace("aign", "grad_norm")
            if online in scores.columns:
                one = agree(online, name, scores[online][self.rows], exact[self.rows], labels)
                found[online] = one.record() | {"per_class": {}}
        for online, one in found.items():
            if online in ("aign_online", "grad_norm_online"):
                log.info(
                    "%s against exact aign, on %d samples: Spearman %s; of the easiest 10, 30 and 50%% %s are the same",
                    online,
                    one["samples"],
                    one["spearman"],
                    ", ".join(f"{share:.0%}" for share in one["overlap"].values()),
                )
        return found


def fold_columns(
    folder: Path, measures: Sequence[Hardness], epochs: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Fold a folder of trajectory files, or some of its epochs: hardness -> [N].

    Raises:
        UsageError: there is no such epoch or column.
    """
    files = {int(file.stem): file for file in sorted(folder.glob("*.parquet"))}
    folds = {measure.name: (measure.column, measure.fold()) for measure in measures}
    for number in sorted(files) if epochs is None else epochs:
        if number not in files:
            raise UsageError(f"{folder} holds no epoch {number}")
        table = read_table(files[number], {"index": "integer"})
        for column, fold in folds.values():
            if column in table.column_names:
                fold.add(table[column].to_numpy())
    return {name: fold.result() for name, (_, fold) in folds.items()}


def compare_early(
    folder: Path, *, hardness: str = "aign", first: Sequence[int] = (), every: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """How a hardness of few epochs agrees with that of all, from a run's trajectory, without training anew.

    Args:
        folder: of a run with `trajectory/`.
        hardness: which one.
        first: numbers of epochs from the start; left out: 1, 2, 5, 10, ... below the number of scored epochs.
        every: steps between epochs; left out: 2, 5 and 10, likewise.

    Returns:
        A row a choice: `first` or `every` (the other is None), `epochs`, `spearman`, and `overlap_10`, `overlap_30`,
        `overlap_50` of the easiest.

    Raises:
        UsageError: no trajectory, or one without that hardness.
    """
    place = folder / "trajectory"
    numbers = sorted(int(file.stem) for file in place.glob("*.parquet"))
    require(bool(numbers), "folder", "of a scoring run, with trajectory/", str(folder))
    measures = load_hardness([hardness])
    require(len(measures) == 1, "hardness", "one that is measured epoch by epoch", hardness)
    whole = fold_columns(place, measures)[measures[0].name]
    require(len(whole) > 0, "hardness", "in the trajectory", hardness)
    labels = np.zeros(len(whole), np.int64)
    choices = [(k, None, numbers[:k]) for k in first or (1, 2, 5, 10, 20, 50, 100) if k < len(numbers)]
    choices += [(None, k, numbers[k - 1 :: k]) for k in every or (2, 5, 10) if k <= len(numbers)]
    rows: list[dict[str, Any]] = []
    for k_first, k_every, chosen in choices:
        part = fold_columns(place, measures, chosen)[measures[0].name]
        one: Agreement = agree(hardness, hardness, part, whole, labels)
        rows.append(
            {
                "first": k_first,
                "every": k_every,
                "epochs": len(chosen),
                "spearman": one.spearman,
                **{f"overlap_{round(100 * share)}": same for share, same in one.overlap.items()},
            }
        )
    return rows
