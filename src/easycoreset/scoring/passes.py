"""From models of scored epochs to a table: passes over a split, a trajectory of epochs, and their fold."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from easycoreset.arrays import open_npy
from easycoreset.console import log, progress
from easycoreset.data import Split
from easycoreset.data.contents import find_leaked
from easycoreset.files import write_atomic
from easycoreset.hardness import Hardness, load_hardness
from easycoreset.hardness.exact import looks_at_outputs, measure_all
from easycoreset.hardness.vog import measure_vog, parts_of
from easycoreset.options import ScoreOptions, options_json
from easycoreset.parquet import read_table, write_table
from easycoreset.processes import add_up, leads, rank, tell, world_size
from easycoreset.tables import Ints, Scores
from easycoreset.tables.agreement import spearman
from easycoreset.tables.merging import standardise
from easycoreset.training import Job

SAMPLE = 2000  # samples on which bf16 is tried, and the rank correlation that it needs
SAME_RANKS = 0.999


def measured_in(number: int, scored: Sequence[int], measures: Sequence[Hardness]) -> list[Hardness]:
    """The measures of one epoch: some cost too much to be taken in every one."""
    return [measure for measure in measures if number in scored[measure.scored_epochs]]


def measure_split(
    job: Job,
    options: ScoreOptions,
    model: nn.Module,
    measures: Sequence[Hardness],
    split: Split,
    epoch: int,
    rows: Ints | None = None,
) -> dict[str, np.ndarray]:
    """Measure all samples of a split, or `rows` of it, each process its part: column -> [N]."""
    order = np.arange(len(split), dtype=np.int64) if rows is None else rows
    size = options.scoring_batch_size
    own = order[rank() :: world_size()]
    bf16 = options.scoring_precision == "bf16"
    if bf16 and not all(looks_at_outputs(measure) for measure in measures):
        log.warning("epoch %d is scored in fp32: some of these measures look at the model itself", epoch)
        bf16 = False
    bf16 = bf16 and _ranks_the_same(job, options, model, split, own, epoch)
    passes = len({measure.dtype for measure in measures})
    with progress(f"scoring {split.name}, epoch {epoch}", passes * -(-len(own) // size)) as bar:
        columns = measure_all(
            model,
            lambda: split.batches(own, size, job.device),
            len(split),
            measures,
            lambda samples: bar.advance(),
            options.feature_layer,
            epoch,
            options.seed,
            bf16,
        )
    return unite(columns, job.device)


def _ranks_the_same(job: Job, options: ScoreOptions, model: nn.Module, split: Split, rows: Ints, epoch: int) -> bool:
    """Whether bf16 leaves the order of a sample of the rows as it is; of several processes the first says so."""
    some = rows[:: max(1, len(rows) // SAMPLE)]
    (aign,) = load_hardness(["aign"])
    found = [
        measure_all(
            model, lambda: split.batches(some, options.scoring_batch_size, job.device), len(split), [aign], bf16=bf16
        )[aign.column][some]
        for bf16 in (False, True)
    ]
    correlation = tell(spearman(*found))
    if not correlation > SAME_RANKS:
        said = "epoch %d is scored in fp32: in bf16 AIGN's rank correlation with it is %.4f, not above %g"
        log.warning(said, epoch, correlation, SAME_RANKS)
    return correlation > SAME_RANKS


def unite(columns: dict[str, np.ndarray], device: torch.device) -> dict[str, np.ndarray]:
    """Bring together what each process measured of its part; NaN where none has a value."""
    if world_size() == 1:
        return columns
    for name, values in columns.items():
        found = torch.from_numpy(np.nan_to_num(values, nan=0.0)).to(device)
        seen = torch.from_numpy(np.isfinite(values).astype(np.int32)).to(device)
        add_up(found, seen)
        columns[name] = torch.where(seen > 0, found / seen.clamp_min(1), float("nan")).cpu().numpy()
    return columns


def write_trajectory(folder: Path, epoch: int, columns: dict[str, np.ndarray]) -> None:
    """Write one scored epoch: `index, epoch` and a float32 column a measure."""
    size = len(next(iter(columns.values())))
    table = {"index": np.arange(size, dtype=np.int64), "epoch": np.full(size, epoch, np.int32), **columns}
    if leads():
        write_table(pa.table(table), folder / f"{epoch:04d}.parquet")


def fold_trajectory(
    job: Job, options: ScoreOptions, measures: Sequence[Hardness], folder: Path, split: Split, scored: Sequence[int]
) -> tuple[Scores, dict[str, int]]:
    """Fold the scored epochs, one file at a time, to one number a sample and hardness.

    Returns:
        The table, and column -> values that were not finite and are left out, where there are any.
    """
    folds = {measure.name: measure.fold() for measure in measures}
    observed = np.zeros(len(split), np.int32)
    bad = dict[str, int]()
    usual = [m for m in measures if not m.opt_in] or measures
    counted = next((m.column for m in usual if m.needs_gradient), usual[0].column) if usual else ""
    for number in scored:
        now = measured_in(number, scored, measures)
        if not now:
            continue  # nothing was asked for but what is taken in other epochs
        table = read_table(folder / f"{number:04d}.parquet", {"index": "integer"})
        for measure in now:
            values = table[measure.column].to_numpy()
            folds[measure.name].add(values)
            bad[measure.name] = bad.get(measure.name, 0) + int(np.sum(~np.isfinite(values)))
        if counted in table.column_names:
            observed += np.isfinite(table[counted].to_numpy())
    bad = {name: count for name, count in bad.items() if count}
    for name, count in bad.items():
        log.warning("warning: %d values of %s in %d epochs are not finite and left out", count, name, len(scored))
    columns = {name: fold.result() for name, fold in folds.items()}
    return make_table(job, options, split, columns, observed), bad


def warn_of_ties(scores: Scores) -> None:
    """Say where a gradient's norm tells no sample from another, as that of a model with too large logits."""
    for name in (name for name in scores.columns if name.startswith(("aign", "grad_norm"))):
        values = scores[name][np.isfinite(scores[name])]
        if len(values) > 1 and not values.any():
            log.warning(
                "warning: %s is 0 for all samples: the model's logits are too large for a gradient of the "
                "cross-entropy, and choosing by it is choosing at random",
                name,
            )


def make_table(
    job: Job, options: ScoreOptions, split: Split, columns: dict[str, np.ndarray], observed: np.ndarray
) -> Scores:
    """The scores of a split, with where they come from."""
    provenance = {
        "fingerprint": split.fingerprint,
        "split": split.name,
        "data": job.source.name,
        "mode": options.mode,
        "model": job.model_name,
        "objective": job.objective_name,
        "shape": list(job.source.shape),
        "options": options_json(options, neutral=False),
    }
    return Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=list(job.source.class_names),
        n_obs=observed.astype(np.int32),
        columns=columns,
        provenance=provenance,
        in_test=find_leaked(job.source) if split.name == "train" else None,
    )


def sweep_vog(
    job: Job, options: ScoreOptions, models: Callable[[], Iterator[nn.Module]], epochs: int, split: Split, file: Path
) -> dict[str, np.ndarray]:
    """`vog_raw` and `vog` of a split from the models of its scored epochs; parts that are done are in `file`.

    Args:
        job: data and device.
        options: batch size.
        models: gives the models of the scored epochs, anew for each part.
        epochs: how many.
        split: the data.
        file: an .npy file that holds how far it came.
    """
    size = options.scoring_batch_size
    raw = np.full(len(split), np.nan, np.float32)
    if file.exists():
        raw = np.array(open_npy(file))
    own = np.arange(len(split), dtype=np.int64)[rank() :: world_size()]
    own = own[~np.isfinite(raw[own])]
    with progress(f"vog of {split.name}", epochs * len(own)) as bar:
        for part in parts_of(own, int(np.prod(job.source.shape))):
            batches = functools.partial(split.batches, part, size, job.device)
            raw[part] = measure_vog(models(), batches, part, bar.advance)
            if world_size() == 1:
                write_atomic(file, lambda path: _save_array(path, raw))
    raw = unite({"vog_raw": raw}, job.device)["vog_raw"]
    return {"vog_raw": raw, "vog": standardise(raw, split.labels)}


def _save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array)
