"""The agreement of cheaper scores with exact ones: online against exact, few epochs against all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from easycoreset.console import log
from easycoreset.data.keyed_random import derive_seed
from easycoreset.errors import UsageError, require
from easycoreset.hardness import Hardness, load_hardness
from easycoreset.options import ScoreOptions
from easycoreset.parquet import read_table
from easycoreset.run_folders import RunFolder
from easycoreset.scoring.measures import Measures, trajectory_measures
from easycoreset.scoring.passes import due_measures, measure_split, write_trajectory
from easycoreset.tables import Ints, Scores
from easycoreset.tables.agreement import Agreement, compare_columns
from easycoreset.training import TrainingSetup


@dataclass(frozen=True)
class ExactComparison:
    """An exact pass over some samples after each scored epoch of an online run.

    Attributes:
        setup: the data and the device.
        options: the options of the run.
        measures: the measures that are recorded online.
        rows: the indices of the samples.
        folder: where the exact trajectory is written.
    """

    setup: TrainingSetup
    options: ScoreOptions
    measures: Sequence[Hardness]
    rows: Ints
    folder: Path

    @classmethod
    def for_run(
        cls, setup: TrainingSetup, options: ScoreOptions, measures: Measures, run: RunFolder
    ) -> "ExactComparison | None":
        """Make the comparison of a run; None if its options disable it."""
        comparable = [measure for measure in trajectory_measures(measures) if not measure.recorded_only]
        if not options.agreement or not comparable:
            return None
        rng = np.random.default_rng(derive_seed(options.seed, "agreement"))
        rows = np.sort(rng.permutation(setup.train_indices)[: options.agreement]).astype(np.int64)
        return cls(setup, options, comparable, rows, run.path / "agreement")

    def measure_epoch(self, number: int, model: nn.Module) -> None:
        """Measure the samples exactly after an epoch, and write the values."""
        due = due_measures(number, self.options.scored_epochs(), self.measures)
        columns = measure_split(self.setup, self.options, model, due, self.setup.split, number, self.rows)
        write_trajectory(self.folder, number, columns)

    def compare_columns(self, scores: Scores) -> dict[str, Any]:
        """Compare the online columns with the exact ones, and log the agreement; returns JSON values."""
        records: dict[str, Any] = {}
        labels = self.setup.split.labels[self.rows]
        for name, exact in fold_columns(self.folder, self.measures).items():
            online = f"{name}_online"
            online = online if online in scores.columns else online.replace("aign", "grad_norm")
            if online in scores.columns:
                agreement = compare_columns(online, name, scores[online][self.rows], exact[self.rows], labels)
                records[online] = agreement.record() | {"per_class": {}}
        for online, record in records.items():
            if online in ("aign_online", "grad_norm_online"):
                log.info(
                    "%s against exact aign, on %d samples: Spearman %s; overlap of the easiest 10, 30 and 50%%: %s",
                    online,
                    record["samples"],
                    record["spearman"],
                    ", ".join(f"{share:.0%}" for share in record["overlap"].values()),
                )
        return records


def fold_columns(
    folder: Path, measures: Sequence[Hardness], epochs: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Fold the trajectory files of a folder, or some of its epochs: hardness -> [N].

    Raises:
        UsageError: an epoch is missing.
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
    folder: Path | str, *, hardness: str = "aign", first: Sequence[int] = (), every: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Compare a hardness of few epochs with that of all, from the trajectory of a run, without new training.

    Args:
        folder: the folder of a run, with `trajectory/`.
        hardness: the name of the hardness.
        first: numbers of first epochs; by default 1, 2, 5, 10, ... below the number of scored epochs.
        every: intervals between epochs; by default 2, 5 and 10, likewise.

    Returns:
        A row per choice: `first` or `every` (the other is None), `epochs`, `spearman`, and `overlap_10`, `overlap_30`,
        `overlap_50` of the easiest.

    Raises:
        UsageError: there is no trajectory, or it lacks that hardness.
    """
    trajectory = Path(folder) / "trajectory"
    numbers = sorted(int(file.stem) for file in trajectory.glob("*.parquet"))
    require(bool(numbers), "folder", "of a scoring run, with trajectory/", str(folder))
    measures = load_hardness([hardness])
    require(len(measures) == 1 and not measures[0].is_wide, "hardness", "one that is measured epoch by epoch", hardness)
    all_epochs = fold_columns(trajectory, measures)[measures[0].name]
    require(len(all_epochs) > 0, "hardness", "in the trajectory", hardness)
    labels = np.zeros(len(all_epochs), np.int64)
    choices = [(k, None, numbers[:k]) for k in first or (1, 2, 5, 10, 20, 50, 100) if k < len(numbers)]
    choices += [(None, k, numbers[k - 1 :: k]) for k in every or (2, 5, 10) if k <= len(numbers)]
    rows: list[dict[str, Any]] = []
    for k_first, k_every, chosen in choices:
        few_epochs = fold_columns(trajectory, measures, chosen)[measures[0].name]
        agreement: Agreement = compare_columns(hardness, hardness, few_epochs, all_epochs, labels)
        rows.append(
            {
                "first": k_first,
                "every": k_every,
                "epochs": len(chosen),
                "spearman": agreement.spearman,
                **{f"overlap_{round(100 * share)}": value for share, value in agreement.overlap.items()},
            }
        )
    return rows
