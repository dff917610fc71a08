"""The audit: a data set's hardest samples, likely wrong labels, and duplicates. Nothing is deleted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from easycoreset.auditing.duplicates import find_duplicates
from easycoreset.auditing.noise import measure_noise
from easycoreset.auditing.result import Audit
from easycoreset.auditing.suspects import has_threshold, rank_hardest_first, suspicion
from easycoreset.console import log
from easycoreset.data import Split
from easycoreset.devices import PASS_BATCH, pass_batch_size
from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.options import AuditOptions, accept_options, options_json
from easycoreset.parquet import read_table, with_provenance, write_table
from easycoreset.paths import sha256_of_file
from easycoreset.process_group import preserve_rng
from easycoreset.progress import progress
from easycoreset.records import read_summary
from easycoreset.run_folders import open_run_folder
from easycoreset.selection.published import read_sample_list
from easycoreset.tables import Scores
from easycoreset.tables.matching import match_scores, require_same_data
from easycoreset.tables.scores import find_scores
from easycoreset.training.setup import match_image_size, open_data, options_record, set_threads, to_device

__all__ = ["Audit", "audit"]

MAX_MODELS = 8  # models of scored epochs over which predictions are averaged, at most


@accept_options(AuditOptions, temporary_out="audit")
@preserve_rng()
def audit(options: AuditOptions) -> Audit:
    """Audit the samples of a split, and write `audit.parquet` and `run.json` to `out`.

    One row per sample: `index, sample_id, label, label_name, pred, pred_name, probability, self_confidence` (from the
    mean probabilities of up to 8 models of the scored epochs, if the run kept them), the hardness that ranks it,
    `rank` (0 is the hardest) and `rank_in_class`, `suspicion` and `likely_mislabelled`, `duplicate_of` (the first
    sample with the same image) and `in_test` (the image is in the test split too).

    Returns:
        The table, the counts and the folder.

    Raises:
        UsageError: the scores are of other data, or lack a column.
    """
    file = find_scores(options.scores)
    scores = Scores.read(file)
    options = match_image_size(options, scores.provenance, f"scores {file}")
    device, source = open_data(options)
    split = source.splits[str(scores.provenance.get("split", "train"))]
    if options.allow_subset:
        scores = match_scores(scores, split, source.class_names, f"scores {file}")
    else:
        require_same_data(scores, split, f"scores {file}")
    by = choose_column(scores, options.by, ("aign", "aign_online", "grad_norm_online"), "by")
    suspect_by = choose_column(
        scores, options.suspect_by, ("loss", "loss_online", "aum", "aum_online", by), "suspect_by"
    )
    wrong = None if options.wrong is None else read_sample_list("wrong", options.wrong, scores).keep
    identity = options_json(options, neutral=False) | {
        "by": by,
        "suspect_by": suspect_by,
        "fingerprint": split.fingerprint,
        "scores": sha256_of_file(file)[:16],
    }
    identity["wrong"] = None if options.wrong is None else sha256_of_file(options.wrong)[:16]
    with open_run_folder(
        options.out, "audit", identity, overwrite=options.overwrite, output_names=("audit.parquet",)
    ) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            table = read_table(run.path / "audit.parquet", {"index": "integer"})
            return Audit(table=table, summary=read_summary(run.path / "run.json"), out=options.out)
        set_threads(options.threads, str(scores.provenance.get("model", "")), device)
        models = find_models(file.parent)
        p = predict_probabilities(options, models, split, device)
        duplicate_of, in_test = find_duplicates(split, source.splits.get("test"), PASS_BATCH)
        table = tabulate(scores, p, by, suspect_by, duplicate_of, in_test)
        held_out = {name: len(part) for name, part in source.splits.items() if name != split.name}
        summary: dict[str, Any] = {
            "split": split.name,
            "models": len(models),
            "not_audited": held_out,
            "unreadable": list(source.unreadable),
        }
        if wrong is not None:
            summary["noise"] = measure_noise(scores, wrong, p)
        write_table(with_provenance(table, {"class_names": list(scores.class_names)}), run.path / "audit.parquet")
        summary = summarise(table, by, suspect_by) | summary
        run.finish(summary=summary, given=options_record(options))
        return Audit(table=table, summary=summary, out=options.out)


def choose_column(scores: Scores, name: str | None, defaults: tuple[str, ...], option: str) -> str:
    """The column `name` if it is given, or else the first default column that the scores have.

    Raises:
        UsageError: the scores do not have the column.
    """
    present = [column for column in ((name,) if name else defaults) if column in scores.columns]
    if not present:
        suggestion = suggest_name(name or defaults[0], scores.columns)
        raise UsageError(f"{option} must be a column of the scores; got {quote(name or defaults[0])}: {suggestion}")
    return present[0]


def find_models(folder: Path) -> list[Path]:
    """Find up to `MAX_MODELS` checkpoints, evenly spread over the scored epochs, or else the finished model."""
    checkpoints = sorted(card.parent for card in (folder / "checkpoints").glob("*/model.json"))
    if checkpoints:
        return [
            checkpoints[position]
            for position in np.unique(np.linspace(0, len(checkpoints) - 1, MAX_MODELS).round().astype(int))
        ]
    return [folder] if (folder / "model.json").exists() else []


def predict_probabilities(
    options: AuditOptions, folders: Sequence[Path], split: Split, device: torch.device
) -> np.ndarray | None:
    """[N, classes], the models' mean probabilities on clean samples; None without a model.

    A finished model has memorised its training labels, including wrong ones; models of earlier epochs have not.
    """
    if not folders:
        log.info("no model beside the scores: nothing is predicted")
        return None
    rows = np.arange(len(split), dtype=np.int64)
    mean_p = np.zeros((0, 0), np.float32)
    with progress("predicting", len(split) * len(folders)) as bar, torch.no_grad():
        size = pass_batch_size(options.batch_size, device, next(split.batches(rows[:1], 1)).x.shape[1:])
        for folder in folders:
            model = to_device(load_model(folder, options.model), device)
            with frozen(model):
                for batch in split.batches(rows, size, device):
                    p = F.softmax(model(batch.x).float(), 1).cpu().numpy()
                    mean_p = mean_p if len(mean_p) else np.zeros((len(split), p.shape[1]), np.float32)
                    mean_p[batch.index.cpu().numpy()] += p / len(folders)
                    bar.advance(len(batch.index))
    return mean_p


def tabulate(
    scores: Scores, p: np.ndarray | None, by: str, suspect_by: str, duplicate_of: np.ndarray, in_test: np.ndarray
) -> pa.Table:
    """Build the table, one row per sample; unknown values are null."""
    names = list(scores.class_names)
    n = len(scores)
    rows = np.arange(n, dtype=np.int64)
    values = suspicion(scores[suspect_by], suspect_by, len(names))
    rank = rank_hardest_first(scores[by])
    rank_in_class = rank_hardest_first(scores[by], scores.labels)
    columns: dict[str, Any] = {
        "index": rows,
        "sample_id": pa.array(scores.sample_ids, pa.string()),
        "label": scores.labels,
        "label_name": pa.array([names[k] for k in scores.labels], pa.string()),
    }
    pred = None if p is None else p.argmax(1)
    columns |= {
        "pred": pa.nulls(n, pa.int64()) if pred is None else pred,
        "pred_name": pa.nulls(n, pa.string()) if pred is None else pa.array([names[k] for k in pred]),
        "probability": pa.nulls(n, pa.float32()) if p is None else p.max(1),
        "self_confidence": pa.nulls(n, pa.float32()) if p is None else p[rows, scores.labels],
        by: scores[by],
        "rank": rank,
        "rank_in_class": rank_in_class,
        suspect_by: scores[suspect_by],
        "suspicion": values,
        "likely_mislabelled": values > 0 if has_threshold(suspect_by) else pa.nulls(n, pa.bool_()),
        "duplicate_of": pa.array(duplicate_of, mask=duplicate_of < 0),
        "in_test": in_test,
    }
    return pa.table(columns)


def _count_true(values: pa.ChunkedArray) -> int | None:
    """Count the true values; None if all are unknown."""
    return None if values.null_count == len(values) else sum(values.to_pylist())


def summarise(table: pa.Table, by: str, suspect_by: str) -> dict[str, Any]:
    """Count what the audit found."""
    label = table["label"].to_numpy()
    duplicate_of = table["duplicate_of"].to_numpy(zero_copy_only=False)
    duplicates = np.flatnonzero(~np.isnan(duplicate_of.astype(float)))
    originals = duplicate_of[duplicates].astype(np.int64)
    return {
        "samples": table.num_rows,
        "by": by,
        "suspect_by": suspect_by,
        "likely_mislabelled": _count_true(table["likely_mislabelled"]),
        "duplicates": len(duplicates),
        "duplicates_with_another_label": int(np.sum(label[duplicates] != label[originals])),
        "also_in_test": int(np.sum(table["in_test"].to_numpy(zero_copy_only=False))),
    }
