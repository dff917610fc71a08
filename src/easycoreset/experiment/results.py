"""The results of an experiment: finished cells, and the table `results.parquet` that is collected from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.experiment.cells import Cell
from easycoreset.parquet import read_shape, read_table
from easycoreset.records import read_record
from easycoreset.run_folders import discard_step
from easycoreset.scoring import scores_file
from easycoreset.scoring.needs import FeatureKind
from easycoreset.tables.features import has_features

CELL_FIELDS = ("data", "model", "method", "fraction", "objective", "updates", "epochs", "seed")
RECORD_FIELDS = ("kept", "selection_seconds", "seconds", "host")


def cell_folder(out: Path, cell: Cell) -> Path:
    """The folder of a finished cell."""
    return out / "cells" / cell.name


def is_done(out: Path, cell: Cell) -> bool:
    """Whether a cell is finished."""
    return (cell_folder(out, cell) / "cell.json").exists()


def scores_folder(out: Path, cell: Cell) -> Path:
    """The folder of a cell's scoring run."""
    return out / "scores" / cell.scoring_name


def is_scored(out: Path, cell: Cell, features: FeatureKind | None) -> bool:
    """Whether a cell's scores exist, with the hardness columns that it needs and this kind of features."""
    file = scores_file(scores_folder(out, cell), "train")
    if not file.exists() or not has_columns(file, cell):
        return False
    return features is None or has_features(file.parent, features, read_shape(file)[1])


def has_columns(file: Path, cell: Cell) -> bool:
    """Whether a table of scores has the hardness columns that a cell needs; tables of older versions may lack some."""
    return set(cell.needs_hardness) <= set(read_shape(file)[0])


def refuse_other_data(out: Path, cells: Sequence[Cell], fingerprint: str) -> None:
    """Refuse finished cells of other data; a cell's name depends on the data set's name, not on its content.

    Raises:
        UsageError: a finished cell has another fingerprint.
    """
    for cell in cells if fingerprint else ():
        try:
            recorded = read_record(cell_folder(out, cell) / "cell.json").get("fingerprint", fingerprint)
        except UsageError:
            continue  # absent, or corrupt (see delete_corrupt_cells)
        if recorded != fingerprint:
            difference = f"fingerprint {recorded[:12]}, now {fingerprint[:12]}"
            raise UsageError(f"out: {out} holds cells of other data ({difference}); give another --out")


def delete_corrupt_cells(out: Path, cells: Sequence[Cell]) -> list[str]:
    """Remove finished cells that cannot be read, so that they are computed again; returns their names."""
    deleted: list[str] = []
    for cell in cells:
        folder = cell_folder(out, cell)
        if not folder.exists():
            continue
        try:
            record = read_record(folder / "cell.json")
            evaluations = [record["clean"], *record["attacked"]]
            table = read_table(folder / "predictions.parquet", {"index": "integer", "broken": "bool"})
            if table.num_rows != sum(evaluation["samples"] for evaluation in evaluations) or not all(
                name in record for name in RECORD_FIELDS
            ):
                raise UsageError("predictions.parquet and cell.json do not match")
        except (UsageError, KeyError, TypeError) as error:
            log.warning("cell %s is corrupt and is computed again: %s", cell.name, error)
            discard_step(folder, "cell.json")
            deleted.append(cell.name)
    return deleted


def collect_results(out: Path, cells: Sequence[Cell]) -> pa.Table:
    """The results of the finished cells, one row per cell, attack and eps."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        if not is_done(out, cell):
            continue
        record = read_record(cell_folder(out, cell) / "cell.json")
        common = {"cell": cell.name} | {name: getattr(cell, name) for name in CELL_FIELDS}
        common |= {name: record[name] for name in RECORD_FIELDS}
        weight_range = record.get("weights", [1.0, 1.0])
        common |= {"selection_mb": record.get("selection_mb"), "weighted": weight_range[0] != weight_range[1]}
        common |= record.get("validation", {})
        common |= {"clean": record["clean"]["accuracy"], "warnings": len(record["warnings"]), "main": cell.contrast_eps}
        several_attacks = len({evaluation["attack"] for evaluation in record["attacked"]}) > 1
        for evaluation in (*record["attacked"], *(record["worst"] if several_attacks else ())):
            rows.append(common | evaluation)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def outcomes(out: Path, cell_name: str) -> pa.Table:
    """The per-image outcomes of a finished cell: `index, label, attack, norm, eps, pred, broken`."""
    return read_table(out / "cells" / cell_name / "predictions.parquet", {"index": "integer", "broken": "bool"})


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("cell", "data", "model", "method")),
        ("fraction", pa.float64()),
        ("objective", pa.string()),
        *((name, pa.int64()) for name in ("updates", "epochs", "seed", "kept")),
        *((name, pa.float64()) for name in ("selection_seconds", "selection_mb", "seconds")),
        ("weighted", pa.bool_()),
        ("host", pa.string()),
        *((name, pa.float64()) for name in ("val_clean", "val_robust", "clean")),
        ("warnings", pa.int64()),
        ("main", pa.float64()),
        *((name, pa.string()) for name in ("attack", "norm")),
        *((name, pa.float64()) for name in ("eps", "accuracy", "low", "high")),
        ("samples", pa.int64()),
    ]
)
