"""The report of an audit: samples that are likely mislabelled or hard, with images that a person can tick."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.documents import DataTable, Figure, SampleImage, Section
from easycoreset.documents.plots import COLOURS, axes_layout
from easycoreset.errors import UsageError
from easycoreset.parquet import read_provenance, read_table
from easycoreset.records import SUMMARY_SCHEMAS, read_record, read_summary
from easycoreset.reporting.score_report import even_edges, open_images
from easycoreset.schemas import check_record

MAX_SUSPECTS = 60  # images of the most suspect samples
LISTED = 10  # samples in the table of the most suspect
IMAGES_PER_CLASS = 8  # images of the hardest samples of a class
MAX_CLASSES = 20  # classes that are shown
INSTRUCTIONS = (
    "Nothing is deleted. Tick the samples that are wrong (Tab and Space, or the mouse) and write the list, a JSON file "
    "of sample ids"
)
CRITERIA = {
    "loss": "averaged over the scored epochs, the model gave their label a lower probability than guessing would",
    "aum": "averaged over the scored epochs, the model preferred another class",
}


def describe_audit(folder: Path) -> list[Section]:
    """Suspects first, then the hardest of each class, then duplicates and unreadable images."""
    table = _read(folder / "audit.parquet")
    record = read_record(folder / "run.json")
    summary = read_summary(folder / "run.json")
    check_record(summary, SUMMARY_SCHEMAS["audit"], f"{folder / 'run.json'}: summary")
    names = read_provenance(table, folder / "audit.parquet", None).get("class_names", [])
    fingerprint = str(record.get("options", {}).get("fingerprint", ""))
    labels = table["label"].to_numpy().astype(np.int64)
    image_url = open_images(record, summary["split"], table["sample_id"].to_pylist(), labels, fingerprint)
    duplicates = summary["duplicates"]
    relabelled = summary["duplicates_with_another_label"]
    train = summary["split"] == "train"
    in_test = f"; {summary['also_in_test']} also in the test split" if train else ""
    instructions = INSTRUCTIONS + (", which `select --exclude FILE` leaves out." if train else ".")
    points = [
        _suspects(summary),
        f"{duplicates} samples equal another sample exactly after resizing and cropping as for training, "
        f"{relabelled} of them under another label{in_test}.",
        f"{len(summary['unreadable'])} images could not be read.",
    ]
    if sum(summary.get("not_audited", {}).values()):
        not_audited = ", ".join(f"the {count} samples of {name}" for name, count in summary["not_audited"].items())
        points.append(f"Not audited: {not_audited}.")
    if summary.get("models") == 1:
        points.append(
            "The predictions are those of the finished model, which may have memorised the labels it was trained on."
        )
    tables = [_most_suspect(table, summary), *([_noise(summary["noise"])] if "noise" in summary else [])]
    return [
        Section("Audit", bullets=points, tables=tables, brief=True),
        Section("Samples to look at", [instructions], tickable_galleries=_ticks(table, image_url, names, summary)),
        Section("Duplicates", tables=[_duplicates(table)], collapsed=True),
        *([Section("Unreadable images", bullets=summary["unreadable"])] if summary["unreadable"] else []),
    ]


def draw_suspicion(table: pa.Table, summary: dict[str, Any]) -> Figure:
    """A histogram of the column that flags likely wrong labels, those that are flagged in a colour of their own."""
    column = summary["suspect_by"]
    values = table[column].to_numpy().astype(float)
    flagged = table["likely_mislabelled"].fill_null(False).to_numpy(zero_copy_only=False)
    edges = even_edges(values[np.isfinite(values)])
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": ((edges[:-1] + edges[1:]) / 2).tolist(),
            "y": np.histogram(values[rows & np.isfinite(values)], edges)[0].tolist(),
            "width": np.diff(edges).tolist(),
            "marker": {"color": COLOURS[number]},
        }
        for number, (name, rows) in enumerate((("others", ~flagged), ("likely mislabelled", flagged)))
    ]
    return Figure(f"samples by {column}", traces, axes_layout(column, "samples", barmode="stack", bargap=0))


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
    """An audit's table, whose rows have index 0, 1, ...

    Raises:
        UsageError: it is missing or damaged.
    """
    table = read_table(file, COLUMNS)
    originals = table["duplicate_of"].drop_null().to_numpy()
    rows = np.arange(table.num_rows)
    if not np.array_equal(table["index"].to_numpy(), rows) or not np.isin(originals, rows).all():
        raise UsageError(f"{file}: index must be the row's number, and duplicate_of a row's number")
    return table


def _suspects(summary: dict[str, Any]) -> str:
    """How many samples are likely mislabelled, and by which criterion."""
    column = summary["suspect_by"]
    count = summary["likely_mislabelled"]
    if count is None:
        return (
            f"How many of {summary['samples']} samples are mislabelled is not known from {column}: it has no threshold."
        )
    criterion = CRITERIA[column.removesuffix("_online")]
    return f"{count} of {summary['samples']} samples are likely mislabelled, or very hard: {criterion} ({column})."


def _find_suspects(table: pa.Table, summary: dict[str, Any]) -> np.ndarray:
    """Rows of the likely mislabelled samples, or of all where there is no threshold, the most suspect first."""
    rows = np.arange(table.num_rows)
    if summary["likely_mislabelled"] is not None:
        rows = np.flatnonzero(table["likely_mislabelled"].fill_null(False).to_numpy(zero_copy_only=False))
    return rows[np.argsort(-table["suspicion"].to_numpy()[rows], kind="stable")]


def _most_suspect(table: pa.Table, summary: dict[str, Any]) -> DataTable:
    names = ("index", "sample_id", "label_name", "pred_name", summary["suspect_by"])
    lines = table.take(_find_suspects(table, summary)[:LISTED]).to_pylist()
    columns = ["index", "sample", "label", "predicted", summary["suspect_by"]]
    return DataTable("the most suspect samples", columns, [[line.get(name) for name in names] for line in lines])


def _ticks(
    table: pa.Table, image_url: Any, names: Sequence[str], summary: dict[str, Any]
) -> dict[str, list[SampleImage]]:
    """Title -> images that can be ticked."""
    order = _find_suspects(table, summary)[:MAX_SUSPECTS]
    images = {f"most suspect, by {summary['suspect_by']}": _to_images(table, order, image_url)}
    images["identical images with different labels"] = _to_images(
        table, _contradictions(table)[:MAX_SUSPECTS], image_url
    )
    label = table["label"].to_numpy()
    rank = table["rank_in_class"].to_numpy()
    for k, name in enumerate(list(names)[:MAX_CLASSES]):
        hardest = np.flatnonzero((label == k) & (rank < IMAGES_PER_CLASS))
        images[f"hardest of class {name}, by {summary['by']}"] = _to_images(
            table, hardest[np.argsort(rank[hardest])], image_url
        )
    return {title: images for title, images in images.items() if images}


def _to_images(table: pa.Table, rows: np.ndarray, image_url: Any) -> list[SampleImage]:
    images: list[SampleImage] = []
    for line in table.take(rows).to_pylist():
        caption = f"{line['sample_id']}: {line['label_name']}"
        if line["pred_name"] is not None:
            confidence = "" if line["probability"] is None else f" ({line['probability']:.0%})"
            caption += f", predicted {line['pred_name']}{confidence}"
        try:
            data = image_url(line["index"]) if image_url is not None else ""
        except Exception as error:  # an unreadable image raises almost anything
            data = ""
            caption = f"{caption}; cannot be read: {error}"
        images.append(SampleImage(data, caption, line["index"], line["sample_id"]))
    return images


def _contradictions(table: pa.Table) -> np.ndarray:
    """Rows of exact duplicates with different labels, each original before its duplicate."""
    original = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    label = table["label"].to_numpy()
    rows = np.flatnonzero(~np.isnan(original))
    first = original[rows].astype(np.int64)
    pairs = np.stack([first, rows], 1)[label[first] != label[rows]].ravel()
    return np.array(list(dict.fromkeys(pairs.tolist())), np.int64)


def _duplicates(table: pa.Table) -> DataTable:
    original = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    rows = np.flatnonzero(~np.isnan(original))
    ids = table["sample_id"].to_pylist()
    names = table["label_name"].to_pylist()
    grid_rows = [[int(r), ids[r], names[r], ids[int(original[r])], names[int(original[r])]] for r in rows[:1000]]
    in_test = np.flatnonzero(table["in_test"].to_numpy(zero_copy_only=False))
    grid_rows += [[int(r), ids[r], names[r], "an image of the test split", None] for r in in_test[:1000]]
    return DataTable("exact duplicates", ["index", "sample", "label", "duplicate of", "label of that"], grid_rows)


def _noise(noise: dict[str, Any]) -> DataTable:
    """Precision and recall in finding labels that are known to be wrong."""
    rows = [
        [name, cut["k"], cut["precision"], cut["recall"]] for name, cuts in noise["columns"].items() for cut in cuts
    ]
    caption = f"how well each column finds the {noise['wrong']} labels that are known to be wrong"
    if "cleanlab" in noise["columns"]:
        caption += " (cleanlab uses probabilities of a model trained on them)"
    return DataTable(caption, ["ranked by", "k", "precision at k", "recall at k"], rows)
