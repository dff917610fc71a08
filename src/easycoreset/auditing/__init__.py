"""The audit: the hard end of a data set, what is likely mislabelled, and what is there twice. Nothing is deleted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F

from easycoreset.auditing.duplicates import find_duplicates
from easycoreset.auditing.noise import measure_noise
from easycoreset.auditing.suspects import has_threshold, place_of, suspicion
from easycoreset.console import log, progress
from easycoreset.data import Split
from easycoreset.errors import UsageError, nearest, quote
from easycoreset.folders import claim
from easycoreset.models.modes import frozen
from easycoreset.models.saved import load_model
from easycoreset.options import AuditOptions, options_json, takes
from easycoreset.parquet import read_table, with_provenance, write_table
from easycoreset.paths import digest_of
from easycoreset.processes import undisturbed
from easycoreset.selection.published import read_listed
from easycoreset.tables import Scores
from easycoreset.tables.scores import find_scores
from easycoreset.tables.subset import match_scores, require_same_data
from easycoreset.training.setup import open_data, recorded, set_threads, sized_as, to_device

__all__ = ["audit"]

MODELS = 8  # of the scored epochs, over which predictions are averaged


@takes(AuditOptions)
@undisturbed()
def audit(options: AuditOptions) -> pa.Table:
    """Look at the hard end of a split, and write `audit.parquet` and `run.json` to `out`.

    A row a sample: `index, sample_id, label, label_name, pred, pred_name, probability, self_confidence` (by the mean
    probabilities of up to 8 of the scored epochs' models, where the run kept them), the hardness that it is ranked by,
    `rank` (0 is the hardest) and `rank_in_class`, `suspicion` and `likely_mislabelled`, `duplicate_of` (the first
    sample with the same picture) and `in_test` (the picture is in the test part too).

    Returns:
        The table.

    Raises:
        UsageError: scores of other data, or a column that they lack.
    """
    file = find_scores(options.scores)
    scores = Scores.read(file)
    options = sized_as(options, scores.provenance, f"scores {file}")
    device, source = open_data(options)
    split = source.splits[str(scores.provenance.get("split", "train"))]
    if options.allow_subset:
        scores = match_scores(scores, split, source.class_names, f"scores {file}")
    else:
        require_same_data(scores, split, f"scores {file}")
    by = column_of(scores, options.by, ("aign", "aign_online", "grad_norm_online"), "by")
    suspect_by = column_of(scores, options.suspect_by, ("loss", "loss_online", "aum", "aum_online", by), "suspect_by")
    wrong = None if options.wrong is None else read_listed("wrong", options.wrong, scores).keep
    identity = options_json(options, neutral=False) | {
        "by": by,
        "suspect_by": suspect_by,
        "fingerprint": split.fingerprint,
        "scores": digest_of(file)[:16],
    }
    identity["wrong"] = None if options.wrong is None else digest_of(options.wrong)[:16]
    with claim(options.out, "audit", identity, overwrite=options.overwrite, places=("audit.parquet",)) as run:
        if run.done:
            log.info("%s is finished already", options.out)
            return read_table(run.path / "audit.parquet", {"index": "integer"})
        set_threads(options.threads, str(scores.provenance.get("model", "")), device)
        models = find_models(file.parent)
        p = predict_probabilities(options, models, split, device)
        twins, in_test = find_duplicates(split, source.splits.get("test"), options.batch_size)
        table = tabulate(scores, p, by, suspect_by, twins, in_test)
        held_out = {name: len(other) for name, other in source.splits.items() if name != split.name}
        facts: dict[str, Any] = {
            "split": split.name,
            "models": len(models),
            "not_audited": held_out,
            "unreadable": list(source.broken),
        }
        if wrong is not None:
            facts["noise"] = measure_noise(scores, wrong, p)
        write_table(with_provenance(table, {"class_names": list(scores.class_names)}), run.path / "audit.parquet")
        run.finish(summary=summarise(table, by, suspect_by) | facts, given=recorded(options))
        return table


def column_of(scores: Scores, asked: str | None, usual: tuple[str, ...], option: str) -> str:
    """The column that is asked for, or the first of the usual ones that is there.

    Raises:
        UsageError: it is not there.
    """
    found = [name for name in ((asked,) if asked else usual) if name in scores.columns]
    if not found:
        said = nearest(asked or usual[0], scores.columns)
        raise UsageError(f"{option} must be a column of the scores; got {quote(asked or usual[0])}: {said}")
    return found[0]


def find_models(folder: Path) -> list[Path]:
    """Folders of the weights of scored epochs, evenly spread, or of the finished model where they were not kept."""
    kept = sorted(card.parent for card in (folder / "checkpoints").glob("*/model.json"))
    if kept:
        return [kept[place] for place in np.unique(np.linspace(0, len(kept) - 1, MODELS).round().astype(int))]
    return [folder] if (folder / "model.json").exists() else []


def predict_probabilities(
    options: AuditOptions, folders: Sequence[Path], split: Split, device: torch.device
) -> np.ndarray | None:
    """[N, classes], the mean over the models' on the clean samples; None where there is none.

    A finished model knows the labels that it was trained on by heart, wrong ones too; on the way there it does not.
    """
    if not folders:
        log.info("no model beside the scores: nothing is predicted")
        return None
    rows = np.arange(len(split), dtype=np.int64)
    found = np.zeros((0, 0), np.float32)
    with progress("predicting", len(split) * len(folders)) as bar, torch.no_grad():
        for folder in folders:
            model = to_device(load_model(folder, options.model), device)
            with frozen(model):
                for batch in split.batches(rows, options.batch_size, device):
                    p = F.softmax(model(batch.x).float(), 1).cpu().numpy()
                    found = found if len(found) else np.zeros((len(split), p.shape[1]), np.float32)
                    found[batch.index.cpu().numpy()] += p / len(folders)
                    bar.advance(len(batch.index))
    return found


def tabulate(
    scores: Scores, p: np.ndarray | None, by: str, suspect_by: str, twins: np.ndarray, in_test: np.ndarray
) -> pa.Table:
    """A row a sample; what is not known is null."""
    names = list(scores.class_names)
    n = len(scores)
    rows = np.arange(n, dtype=np.int64)
    values = suspicion(scores[suspect_by], suspect_by, len(names))
    rank = place_of(scores[by])
    within = place_of(scores[by], scores.labels)
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
        "rank_in_class": within,
        suspect_by: scores[suspect_by],
        "suspicion": values,
        "likely_mislabelled": values > 0 if has_threshold(suspect_by) else pa.nulls(n, pa.bool_()),
        "duplicate_of": pa.array(twins, mask=twins < 0),
        "in_test": in_test,
    }
    return pa.table(columns)


def _count(values: pa.ChunkedArray) -> int | None:
    """How many are true; None where it is not known of any."""
    return None if values.null_count == len(values) else sum(values.to_pylist())


def summarise(table: pa.Table, by: str, suspect_by: str) -> dict[str, Any]:
    """Counts of what was found."""
    label = table["label"].to_numpy()
    twin = table["duplicate_of"].to_numpy(zero_copy_only=False)
    twice = np.flatnonzero(~np.isnan(twin.astype(float)))
    firsts = twin[twice].astype(np.int64)
    return {
        "samples": table.num_rows,
        "by": by,
        "suspect_by": suspect_by,
        "likely_mislabelled": _count(table["likely_mislabelled"]),
        "duplicates": len(twice),
        "duplicates_with_another_label": int(np.sum(label[twice] != label[firsts])),
        "also_in_test": int(np.sum(table["in_test"].to_numpy(zero_copy_only=False))),
    }
