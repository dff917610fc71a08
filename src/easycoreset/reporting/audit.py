"""The report of an audit: what is likely mislabelled and what is hard, with pictures that a person ticks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.errors import UsageError
from easycoreset.parquet import read_provenance, read_table
from easycoreset.records import SUMMARIES, read_record, read_summary
from easycoreset.reporting.page import Grid, Picture, Section
from easycoreset.reporting.samples import open_images
from easycoreset.schemas import check_record

SUSPECTS = 60  # pictures of the most suspect
OF_A_CLASS = 8  # pictures of the hardest of a class
CLASSES = 20  # that are shown
HOW = (
    "Nothing is deleted. Tick what is wrong (Tab and Space, or the mouse) and write the list: a JSON file of sample ids"
)
SAYS = {
    "loss": "averaged over the scored epochs the model gave their label less probability than guessing would",
    "aum": "averaged over the scored epochs the model preferred another class",
}


def describe_audit(folder: Path) -> list[Section]:
    """Suspects first, then the hardest of each class, then duplicates and what cannot be read."""
    table = _read(folder / "audit.parquet")
    record = read_record(folder / "run.json")
    summary = read_summary(folder / "run.json")
    check_record(summary, SUMMARIES["audit"], f"{folder / 'run.json'}: summary")
    names = read_provenance(table, folder / "audit.parquet", None).get("class_names", [])
    known = str(record.get("options", {}).get("fingerprint", ""))
    labels = table["label"].to_numpy().astype(np.int64)
    picture = open_images(record, summary["split"], table["sample_id"].to_pylist(), labels, known)
    twins = summary["duplicates"]
    other = summary["duplicates_with_another_label"]
    train = summary["split"] == "train"
    in_test = f"; {summary['also_in_test']} in the test part too" if train else ""
    how = HOW + (", which `select --exclude FILE` leaves out." if train else ".")
    points = [
        _suspects(summary),
        f"{twins} look exactly as another sample does, as they are trained on (resized, cropped), {other} of them "
        f"under another label{in_test}.",
        f"{len(summary['unreadable'])} pictures could not be read.",
    ]
    if sum(summary.get("not_audited", {}).values()):
        other = ", ".join(f"the {count} samples of {name}" for name, count in summary["not_audited"].items())
        points.append(f"Not audited: {other}.")
    if summary.get("models") == 1:
        points.append("Predictions are the finished model's, which may know the labels it was trained on by heart.")
    tables = [_noise(summary["noise"])] if "noise" in summary else []
    return [
        Section("Audit", [how], points=points, tables=tables, ticks=_ticks(table, picture, names, summary)),
        Section("Duplicates", tables=[_duplicates(table)], folded=True),
        *([Section("Pictures that cannot be read", points=summary["unreadable"])] if summary["unreadable"] else []),
    ]


COLUMNS = {
    "index": "integer",
    "sample_id": "text",
    "label": "integer",
    "label_name": "text",
    "pred_name": "text?",
    "probability": "number?",
    "rank_in_class": "integer",
    "suspicion": "number",
    "likely_mislabelled": "bool",
    "duplicate_of": "integer?",
    "in_test": "bool",
}


def _read(file: Path) -> pa.Table:
    """An audit's table, whose rows are of index 0, 1, ...

    Raises:
        UsageError: it is missing or damaged.
    """
    table = read_table(file, COLUMNS)
    twins = table["duplicate_of"].drop_null().to_numpy()
    rows = np.arange(table.num_rows)
    if not np.array_equal(table["index"].to_numpy(), rows) or not np.isin(twins, rows).all():
        raise UsageError(f"{file}: index must be the number of the row, and duplicate_of one of them")
    return table


def _suspects(summary: dict[str, Any]) -> str:
    """How many are likely mislabelled, and what that means."""
    column = summary["suspect_by"]
    count = summary["likely_mislabelled"]
    if count is None:
        return f"How many samples are mislabelled is not known from {column}, which has no threshold."
    said = SAYS[column.removesuffix("_online")]
    return f"{count} of {summary['samples']} samples are likely mislabelled, or very hard: {said} ({column})."


def _ticks(table: pa.Table, picture: Any, names: Sequence[str], summary: dict[str, Any]) -> dict[str, list[Picture]]:
    """Title -> pictures that can be ticked."""
    suspicion = table["suspicion"].to_numpy()
    known = summary["likely_mislabelled"] is not None
    likely = np.flatnonzero(table["likely_mislabelled"].fill_null(False).to_numpy(zero_copy_only=False))
    likely = likely if known else np.arange(table.num_rows)
    order = likely[np.argsort(-suspicion[likely], kind="stable")][:SUSPECTS]
    found = {f"most suspect, by {summary['suspect_by']}": _pictures(table, order, picture)}
    found["the same picture under two labels"] = _pictures(table, _contradictions(table)[:SUSPECTS], picture)
    label = table["label"].to_numpy()
    within = table["rank_in_class"].to_numpy()
    for k, name in enumerate(list(names)[:CLASSES]):
        own = np.flatnonzero((label == k) & (within < OF_A_CLASS))
        found[f"hardest of class {name}, by {summary['by']}"] = _pictures(table, own[np.argsort(within[own])], picture)
    return {title: pictures for title, pictures in found.items() if pictures}


def _pictures(table: pa.Table, rows: np.ndarray, picture: Any) -> list[Picture]:
    found: list[Picture] = []
    for line in table.take(rows).to_pylist():
        said = f"{line['sample_id']}: {line['label_name']}"
        if line["pred_name"] is not None:
            sure = "" if line["probability"] is None else f" ({line['probability']:.0%})"
            said += f", predicted {line['pred_name']}{sure}"
        try:
            data = picture(line["index"]) if picture is not None else ""
        except Exception as error:  # a broken picture raises almost anything
            data = ""
            said = f"{said}; cannot be read: {error}"
        found.append(Picture(data, said, line["index"], line["sample_id"]))
    return found


def _contradictions(table: pa.Table) -> np.ndarray:
    """Rows of samples that look exactly as one with another label does, and that one, twin beside twin."""
    twin = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    label = table["label"].to_numpy()
    rows = np.flatnonzero(~np.isnan(twin))
    first = twin[rows].astype(np.int64)
    pairs = np.stack([first, rows], 1)[label[first] != label[rows]].ravel()
    return np.array(list(dict.fromkeys(pairs.tolist())), np.int64)


def _duplicates(table: pa.Table) -> Grid:
    twin = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    rows = np.flatnonzero(~np.isnan(twin))
    ids = table["sample_id"].to_pylist()
    names = table["label_name"].to_pylist()
    lines = [[int(r), ids[r], names[r], ids[int(twin[r])], names[int(twin[r])]] for r in rows[:1000]]
    leaked = np.flatnonzero(table["in_test"].to_numpy(zero_copy_only=False))
    lines += [[int(r), ids[r], names[r], "a picture of the test part", None] for r in leaked[:1000]]
    return Grid("exact duplicates", ["index", "sample", "label", "is the same as", "whose label is"], lines)


def _noise(noise: dict[str, Any]) -> Grid:
    """Precision and recall on labels that are known to be wrong."""
    rows = [
        [name, cut["k"], cut["precision"], cut["recall"]] for name, cuts in noise["columns"].items() for cut in cuts
    ]
    caption = f"how well each column finds the {noise['wrong']} labels that are known to be wrong"
    if "cleanlab" in noise["columns"]:
        caption += " (cleanlab by probabilities of a model that was trained on them)"
    return Grid(caption, ["ranked by", "k", "precision at k", "recall at k"], rows)
