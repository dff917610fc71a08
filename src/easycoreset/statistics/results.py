"""The results of a plan: one row per trained model, attack and eps, collected from finished steps."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from easycoreset.attack_order import find_excess, is_weaker
from easycoreset.parquet import read_table
from easycoreset.plan_folders import read_cell, step_folder
from easycoreset.proportions import wilson_interval

CELL_FIELDS = ("data", "model", "method", "fraction", "objective", "variant", "scoring", "updates", "epochs", "seed")
LINE_FIELDS = ("attack", "norm", "eps", "accuracy", "low", "high", "samples")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("cell", "data", "model", "method")),
        ("fraction", pa.float64()),
        *((name, pa.string()) for name in ("objective", "variant", "scoring")),
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
        ("strong", pa.bool_()),
        ("evaluation", pa.string()),
    ]
)


Rows = list[dict[str, Any]]


def collect_results(
    folder: Path, cells: Iterable[Mapping[str, Any]], finished: dict[str, Rows] | None = None
) -> pa.Table:
    """The results of the finished cells, with a column for each option that differs between them.

    Args:
        folder: the plan's folder.
        cells: the cells, as `plan.json` describes them.
        finished: the rows of cells that are known to be finished, by name; those of others are added.
    """
    finished = {} if finished is None else finished
    cells = [cell for cell in cells if not cell["superseded"]]
    rows: Rows = []
    for cell in cells:
        known = finished.get(cell["name"])
        if known is None and (record := read_cell(folder, cell)) is not None:
            known = cell_rows(folder, record)
            if len(record["evaluated"]) == len(cell["evaluations"]):
                finished[cell["name"]] = known
        rows += known or []
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    options = {cell["name"]: cell["options"] for cell in cells}
    for name in dict.fromkeys(name for values in options.values() for name in values):
        values = [str(options[row["cell"]].get(name, "default")) for row in rows]
        if len(set(values)) > 1 and name not in SCHEMA.names:
            table = table.append_column(name, pa.array(values, pa.string()))
    return table


def cell_rows(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of one cell: one per attack and eps, and one for all attacks together where there are several."""
    chosen, evaluated = record["chosen"], record["evaluated"]
    weights = chosen.get("weights", (1.0, 1.0))
    common = {"cell": record["name"], **{name: record[name] for name in CELL_FIELDS}}
    common |= {"kept": chosen["kept"], "seconds": record["seconds"], "host": record["host"], "main": record["main_eps"]}
    common |= {name: chosen.get(name) for name in ("selection_seconds", "selection_mb")}
    common |= record["validation"]
    common |= {"weighted": weights[0] != weights[1], "warnings": len(list_warnings(folder, record))}
    common |= {"clean": main_evaluation(record)["clean"]["accuracy"]}
    rows: dict[tuple[str, float, bool], dict[str, Any]] = {}
    for entry in evaluated:  # where gradients vanish, an evaluation has one attack more than was asked for
        for line in entry["attacked"]:
            if line["attack"] == entry["attack"] or not entry["strong"]:
                facts = {"strong": entry["strong"], "evaluation": entry["key"]}
                row = common | {name: line[name] for name in LINE_FIELDS} | facts
                rows.setdefault((line["attack"], line["eps"], entry["strong"]), row)
    return [*rows.values(), *_worst_rows(folder, common, list(rows.values()))]


def _worst_rows(folder: Path, common: dict[str, Any], rows: Rows) -> Rows:
    """The rows of all attacks together, one an eps, where there are several attacks."""
    usual = [row for row in rows if not row["strong"]]
    if len({row["attack"] for row in usual}) < 2:
        return []
    radii = dict.fromkeys(row["eps"] for row in usual)
    return [common | _worst_case(folder, [row for row in usual if row["eps"] == eps]) for eps in radii]


def main_evaluation(record: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation at the main eps whose clean accuracy is the cell's."""
    return next(entry for entry in record["evaluated"] if entry["eps"] == record["main_eps"] and not entry["strong"])


def list_warnings(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The warnings of choosing, of all evaluations, and of attacks that are out of order, each once."""
    texts = [*record["chosen"].get("warnings", ()), *(text for e in record["evaluated"] for text in e["warnings"])]
    return list(dict.fromkeys([*texts, *_order_warnings(folder, record["evaluated"])]))


def _order_warnings(folder: Path, evaluated: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where an attack breaks more than a stronger one at the same eps on the same images."""
    asked = [(entry, _strength(entry)) for entry in evaluated if entry["attack"] in entry.get("attacks", {})]
    for weak, strong in itertools.permutations(asked, 2):
        if weak[0]["eps"] != strong[0]["eps"] or not is_weaker(weak[1], strong[1]):
            continue
        tables = [_attacked_images(folder, entry["key"], entry["attack"]) for entry, _ in (weak, strong)]
        images = sorted(set(tables[0]) & set(tables[1]))
        broken = [np.array([table[image] for image in images]) for table in tables]
        _, passed, message = find_excess(weak[0]["attack"], strong[0]["attack"], weak[0]["eps"], *broken)
        if not passed:
            yield message


def _strength(entry: Mapping[str, Any]) -> list[int]:
    return entry["attacks"][entry["attack"]].get("strength", [])


def _attacked_images(folder: Path, key: str, attack: str | None = None) -> dict[int, bool]:
    """Image -> whether it is broken, under one attack of an evaluation or under any."""
    file = step_folder(folder, "evaluate", key) / "predictions.parquet"
    table = read_table(file, {"index": "integer", "broken": "bool"})
    of_attack = pc.field("attack") != "clean" if attack is None else pc.field("attack") == attack
    table = table.filter(of_attack)
    broken: dict[int, bool] = {}
    for index, value in zip(table["index"].to_pylist(), table["broken"].to_pylist(), strict=True):
        broken[index] = broken.get(index, False) or value
    return broken


def _worst_case(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of all attacks at one eps: an image is broken if any attack broke it."""
    broken: dict[int, bool] = {}
    for key in dict.fromkeys(row["evaluation"] for row in rows):
        for index, value in _attacked_images(folder, key).items():
            broken[index] = broken.get(index, False) or value
    survived = len(broken) - sum(broken.values())
    low, high = wilson_interval(survived, len(broken))
    facts = {"attack": "worst", "norm": rows[0]["norm"], "eps": rows[0]["eps"], "strong": False, "evaluation": None}
    return facts | {"accuracy": survived / max(len(broken), 1), "low": low, "high": high, "samples": len(broken)}
