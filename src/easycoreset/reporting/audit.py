"""The report of an audit: what is likely mislabelled and what is hard, with pictures that a person ticks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.files import read_json
from easycoreset.parquet import read_provenance, read_table
from easycoreset.reporting.page import Grid, Picture, Section
from easycoreset.reporting.samples import open_images

SUSPECTS = 60  # pictures of the most suspect
OF_A_CLASS = 8  # pictures of the hardest of a class
CLASSES = 20  # that are shown
HOW = (
    "Nothing is deleted. Tick what is wrong (Tab and Space, or the mouse) and write the list: a text file of indices, "
    "which `select --exclude FILE` leaves out."
)


def describe_audit(folder: Path) -> list[Section]:
    """Suspects first, then the hardest of each class, then duplicates and what cannot be read."""
    table = read_table(folder / "audit.parquet", {"index": "integer", "label": "integer"})
    record = read_json(folder / "run.json")
    summary = record["summary"]
    names = read_provenance(table, folder / "audit.parquet", None).get("class_names", [])
    picture = open_images(record, "train", table["sample_id"].to_pylist())
    twins, other = summary["duplicates"], summary["duplicates_with_another_label"]
    points = [
        f"{summary['likely_mislabelled']} of {summary['samples']} samples are likely mislabelled, or very hard: over "
        f"training the model gave their label less probability than guessing would ({summary['suspect_by']}).",
        f"{twins} are exact duplicates of another sample, {other} of them under another label; "
        f"{summary['also_in_test']} are in the test part too.",
        f"{len(summary['unreadable'])} pictures could not be read.",
    ]
    tables = [_noise(summary["noise"])] if "noise" in summary else []
    return [
        Section("Audit", [HOW], points=points, tables=tables, ticks=_ticks(table, picture, names, summary)),
        Section("Duplicates", tables=[_duplicates(table)], folded=True),
        *([Section("Pictures that cannot be read", points=summary["unreadable"])] if summary["unreadable"] else []),
    ]


def _ticks(table: pa.Table, picture: Any, names: Sequence[str], summary: dict[str, Any]) -> dict[str, list[Picture]]:
    """Title -> pictures that can be ticked."""
    suspicion = table["suspicion"].to_numpy()
    likely = np.flatnonzero(table["likely_mislabelled"].to_numpy(zero_copy_only=False))
    order = likely[np.argsort(-suspicion[likely], kind="stable")][:SUSPECTS]
    found = {f"most suspect, by {summary['suspect_by']}": _pictures(table, order, picture)}
    label, within = table["label"].to_numpy(), table["rank_in_class"].to_numpy()
    for k, name in enumerate(list(names)[:CLASSES]):
        own = np.flatnonzero((label == k) & (within < OF_A_CLASS))
        found[f"hardest of class {name}, by {summary['by']}"] = _pictures(table, own[np.argsort(within[own])], picture)
    return {title: pictures for title, pictures in found.items() if pictures}


def _pictures(table: pa.Table, rows: np.ndarray, picture: Any) -> list[Picture]:
    found: list[Picture] = []
    for line in table.take(rows).to_pylist():
        said = f"{line['sample_id']}: {line['label_name']}"
        if line["pred_name"] is not None:
            said += f", predicted {line['pred_name']} ({line['probability']:.0%})"
        try:
            data = picture(line["index"]) if picture is not None else ""
        except Exception as error:  # a broken picture raises almost anything
            data, said = "", f"{said}; cannot be read: {error}"
        found.append(Picture(data, said, line["index"]))
    return found


def _duplicates(table: pa.Table) -> Grid:
    twin = table["duplicate_of"].to_numpy(zero_copy_only=False).astype(float)
    rows = np.flatnonzero(~np.isnan(twin))
    ids, names = table["sample_id"].to_pylist(), table["label_name"].to_pylist()
    lines = [[int(r), ids[r], names[r], ids[int(twin[r])], names[int(twin[r])]] for r in rows[:1000]]
    return Grid("exact duplicates", ["index", "sample", "label", "is the same as", "whose label is"], lines)


def _noise(noise: dict[str, Any]) -> Grid:
    """Precision and recall on labels that are known to be wrong."""
    rows = [
        [name, cut["k"], cut["precision"], cut["recall"]] for name, cuts in noise["columns"].items() for cut in cuts
    ]
    return Grid(f"how well each column finds the {noise['wrong']} labels that are known to be wrong",
                ["ranked by", "k", "precision at k", "recall at k"], rows)  # fmt: skip
