"""Scoring passes: measure a split with the model of an epoch, write the trajectory, and fold it into a table."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from easycoreset.arrays import open_npy
from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.data.content_hashes import find_leaked
from easycoreset.devices import halve_until_it_fits
from easycoreset.files import write_atomic
from easycoreset.hardness import WIDE_MEMORY, Hardness, load_hardness, provenance_of
from easycoreset.hardness.exact import measure_all, measure_on_device, pass_of, works_on_folded_model
from easycoreset.options import ScoreOptions, options_json
from easycoreset.parquet import read_table, write_table
from easycoreset.process_group import broadcast, is_main_process, rank, world_size
from easycoreset.progress import progress
from easycoreset.scoring.measures import scoring_batch_size
from easycoreset.tables import Ints, Scores
from easycoreset.tables.agreement import spearman
from easycoreset.tables.merging import standardise
from easycoreset.training import TrainingSetup
from easycoreset.training.distributed import merge_processes

BF16_SAMPLES = 2000  # samples on which bf16 is checked
BF16_CORRELATION = 0.999  # bf16 is used if its rank correlation with fp32 is higher


def due_measures(number: int, scored: Sequence[int], measures: Sequence[Hardness]) -> list[Hardness]:
    """The measures that are due in an epoch: the expensive ones are not measured in every epoch."""
    return [measure for measure in measures if number in scored[measure.scored_epochs]]


def measure_split(
    setup: TrainingSetup,
    options: ScoreOptions,
    model: nn.Module,
    measures: Sequence[Hardness],
    split: Split,
    epoch: int,
    rows: Ints | None = None,
) -> dict[str, np.ndarray]:
    """Measure all samples of a split, or its `rows`; each process measures a part. Returns column -> [N]."""
    order = np.arange(len(split), dtype=np.int64) if rows is None else rows
    local_rows = order[rank() :: world_size()]
    bf16 = options.scoring_precision == "bf16"
    if bf16 and not all(works_on_folded_model(measure) for measure in measures):
        log.warning("epoch %d is scored in fp32: some of these measures run the model itself", epoch)
        bf16 = False
    first_size = scoring_batch_size(setup, options)
    if bf16:
        bf16 = halve_until_it_fits(
            lambda size: _bf16_keeps_ranks(setup, size, model, split, local_rows, epoch),
            first_size,
            "scoring_batch_size",
        )
    passes = len({pass_of(measure) for measure in measures})

    def measure_in_batches(size: int) -> dict[str, np.ndarray]:
        with progress(f"scoring {split.name}, epoch {epoch}", passes * -(-len(local_rows) // size)) as bar:
            return measure_all(
                model,
                lambda: split.batches(local_rows, size, setup.device),
                len(split),
                measures,
                lambda samples: bar.advance(),
                options.feature_layer,
                epoch,
                options.seed,
                bf16,
            )

    columns = halve_until_it_fits(measure_in_batches, first_size, "scoring_batch_size")
    return merge_processes(columns, setup.device)


def _bf16_keeps_ranks(setup: TrainingSetup, size: int, model: nn.Module, split: Split, rows: Ints, epoch: int) -> bool:
    """Whether AIGN ranks a subset of the rows in bf16 almost as in fp32; the main process decides."""
    subset = rows[:: max(1, len(rows) // BF16_SAMPLES)]
    (aign,) = load_hardness(["aign"])
    values = [
        measure_all(
            model,
            lambda: split.batches(subset, size, setup.device),
            len(split),
            [aign],
            bf16=bf16,
        )[aign.column][subset]
        for bf16 in (False, True)
    ]
    correlation = broadcast(spearman(*values))
    if not correlation > BF16_CORRELATION:
        message = "epoch %d is scored in fp32: in bf16 the rank correlation of AIGN with fp32 is %.4f, not above %g"
        log.warning(message, epoch, correlation, BF16_CORRELATION)
    return correlation > BF16_CORRELATION


def write_trajectory(folder: Path, epoch: int, columns: dict[str, np.ndarray]) -> None:
    """Write one scored epoch: `index`, `epoch` and one float32 column per measure."""
    size = len(next(iter(columns.values())))
    table = {"index": np.arange(size, dtype=np.int64), "epoch": np.full(size, epoch, np.int32), **columns}
    if is_main_process():
        write_table(pa.table(table), folder / f"{epoch:04d}.parquet")


def fold_trajectory(
    setup: TrainingSetup,
    options: ScoreOptions,
    measures: Sequence[Hardness],
    folder: Path,
    split: Split,
    scored: Sequence[int],
) -> tuple[Scores, dict[str, int]]:
    """Fold the scored epochs, one file at a time, into one number per sample and hardness.

    Returns:
        The table, and column -> number of nonfinite values, which are left out, for columns with any.
    """
    folds = {measure.name: measure.fold() for measure in measures}
    observed = np.zeros(len(split), np.int32)
    nonfinite = dict[str, int]()
    # n_obs counts the finite values of one column, which is measured in every scored epoch if any is
    cheap = [m for m in measures if not m.expensive] or measures
    counted_column = next((m.column for m in cheap if m.gradient == "loss"), cheap[0].column) if cheap else ""
    for number in scored:
        due = due_measures(number, scored, measures)
        if not due:
            continue  # no measure was due, so there is no file
        table = read_table(folder / f"{number:04d}.parquet", {"index": "integer"})
        for measure in due:
            values = table[measure.column].to_numpy()
            folds[measure.name].add(values)
            nonfinite[measure.name] = nonfinite.get(measure.name, 0) + int(np.sum(~np.isfinite(values)))
        if counted_column in table.column_names:
            observed += np.isfinite(table[counted_column].to_numpy())
    nonfinite = {name: count for name, count in nonfinite.items() if count}
    for name, count in nonfinite.items():
        log.warning("warning: %d values of %s in %d epochs are not finite and left out", count, name, len(scored))
    columns = dict[str, np.ndarray]()
    for measure in measures:
        columns |= name_columns(measure, folds[measure.name].result(), split.labels)
    return make_table(setup, options, split, columns, observed, provenance_of(measures)), nonfinite


def warn_zero_gradients(scores: Scores) -> None:
    """Warn if a gradient norm is 0 for all samples, which happens if the model's logits are too large."""
    for name in (name for name in scores.columns if name.startswith(("aign", "grad_norm"))):
        values = scores[name][np.isfinite(scores[name])]
        if len(values) > 1 and not values.any():
            log.warning(
                "warning: %s is 0 for all samples: the model's logits are too large for a gradient of the "
                "cross-entropy, and a selection by this column is random",
                name,
            )


def make_table(
    setup: TrainingSetup,
    options: ScoreOptions,
    split: Split,
    columns: dict[str, np.ndarray],
    observed: np.ndarray,
    column_facts: Mapping[str, Any],
) -> Scores:
    """The scores of a split, with their provenance, which includes the `counts` entry of `column_facts`."""
    provenance = {
        "fingerprint": split.fingerprint,
        "split": split.name,
        "data": setup.source.name,
        "mode": options.mode,
        "model": setup.model_name,
        "objective": setup.objective_name,
        "shape": list(setup.source.shape),
        "options": options_json(options, neutral=False),
        **{name: value for name, value in column_facts.items() if name == "counts"},
    }
    return Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=list(setup.source.class_names),
        n_obs=observed.astype(np.int32),
        columns=columns,
        provenance=provenance,
        in_test=find_leaked(setup.source) if split.name == "train" else None,
    )


def fold_models(
    setup: TrainingSetup,
    options: ScoreOptions,
    measure: Hardness,
    models: Callable[[], Iterator[nn.Module]],
    epoch_numbers: Sequence[int],
    split: Split,
    file: Path,
) -> dict[str, np.ndarray]:
    """Fold a wide measure over the models of the scored epochs, as many samples at a time as memory allows.

    Args:
        setup: the data and the device.
        options: for the batch size.
        measure: what to measure.
        models: called for the models of the scored epochs, once per part of the samples.
        epoch_numbers: the scored epochs.
        split: the split to measure.
        file: an .npy file of the values so far.

    Returns:
        column of the scores -> [N] float32.
    """
    size = scoring_batch_size(setup, options)
    raw = np.array(open_npy(file)) if file.exists() else np.full(len(split), np.nan, np.float32)
    rows = np.arange(len(split), dtype=np.int64)[rank() :: world_size()]
    rows = rows[~np.isfinite(raw[rows])]
    per_part = max(1, WIDE_MEMORY // (20 * int(np.prod(setup.source.shape))))
    with progress(f"{measure.name} of {split.name}", len(epoch_numbers) * len(rows)) as bar:
        for part in (rows[start : start + per_part] for start in range(0, len(rows), per_part)):
            row_of = torch.zeros(len(split), dtype=torch.int64, device=setup.device)
            row_of[torch.from_numpy(part).to(setup.device)] = torch.arange(len(part), device=setup.device)
            batches = functools.partial(split.batches, part, size, setup.device)
            fold = measure.fold()
            for number, model in zip(epoch_numbers, models(), strict=True):
                layer, seed = options.feature_layer, options.seed
                values = measure_on_device(
                    model, batches, len(part), [measure], bar.advance, layer, number, seed, row_of=row_of
                )
                fold.add(values[measure.column])
            raw[part] = fold.result()
            if world_size() == 1:
                write_atomic(file, lambda path: _save_array(path, raw))
    raw = merge_processes({measure.name: raw}, setup.device)[measure.name]
    return name_columns(measure, raw, split.labels)


def name_columns(measure: Hardness, values: np.ndarray, labels: Ints) -> dict[str, np.ndarray]:
    """The columns of a measure's folded values."""
    if not measure.standardised:
        return {measure.name: values}
    return {f"{measure.name}_raw": values, measure.name: standardise(values, labels)}


def _save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array)
