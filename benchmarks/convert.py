"""Convert a grid that version 0.1 wrote to the folder of a plan: `benchmarks.convert OLD NEW RECIPE DATA`.

RECIPE and DATA are those of `easycoreset compare` for the same grid. Nothing is computed but the split of outcomes by attack
and radius: scores, coresets, weights and outcomes are copied, and the old contrasts stay declared when they were.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from easycoreset.evaluation import describe_attacks
from easycoreset.file_lists import FileList
from easycoreset.files import make_folder, write_atomic, write_json
from easycoreset.options import CompareOptions, EvaluateOptions
from easycoreset.parquet import read_table, write_table
from easycoreset.plan_folders import STEP_RECORD
from easycoreset.proportions import wilson_interval
from easycoreset.workflow.cells import Cell
from easycoreset.workflow.comparing import plan_comparison, preregister_comparison
from easycoreset.workflow.starts import update_record
from easycoreset.workflow.steps import KINDS, Step
from easycoreset.workflow.worker import describe_step

pc: Any = pyarrow.compute
RENAMED = {"skip_broken": "skip_unreadable"}
IGNORED = {"precision", "data", "optimizer", "warmup", "model", "coreset"}


def main(old: Path, new: Path, recipe: str, data: str) -> None:
    """Convert the folder `old` to `new`; running it again adds what was finished since."""
    options = CompareOptions(recipe=recipe, data=(data,), out=new)
    plan = plan_comparison(options)
    record = json.loads((old / "run.json").read_text())
    if not (new / "plan.json").exists():
        declared = preregister_comparison(options)
        first = record["starts"][0]
        before = [(line["contrast"], line["primary"], line["evaluated"]) for line in first["declared"]]
        for contrast, (was, primary, evaluated) in zip(declared.contrasts, before, strict=True):
            now = contrast.to_json()
            assert {name: now[name] for name in was} == was, (was, now)
            assert evaluated == 0
            assert primary == (contrast == declared.primary)
        kept = {name: first[name] for name in ("time", "command_line", "versions")}
        with FileList(new, "plan.json").active():
            update_record(new, lambda r: r | {"starts": [r["starts"][0] | kept]})
    finished = {facts_of(cell["options"]): (file.parent, cell) for file, cell in read_cells(old)}
    for cell in plan.cells:
        place = (cell.method, cell.fraction, cell.objective, cell.updates, cell.seed)
        if place in finished:
            convert_cell(cell, *finished[place], old, new)
    print(f"{len(finished)} of {len(plan.cells)} cells are converted")


def read_cells(old: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The records of the finished cells."""
    return [(file, json.loads(file.read_text())) for file in sorted((old / "cells").glob("*/cell.json"))]


def facts_of(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """What names a cell in both versions."""
    return tuple(options[name] for name in ("method", "fraction", "objective", "updates", "seed"))


def convert_cell(cell: Cell, folder: Path, record: Mapping[str, Any], old: Path, new: Path) -> None:
    """Convert the steps of one cell."""
    if "score" in cell.steps:
        step = cell.steps["score"]
        runs = {read(file)["options"]["seed"]: file.parent for file in (old / "scores").glob("*/run.json")}
        convert_run(step, runs[step.options["seed"]], new)
    if "select" in cell.steps:
        step = cell.steps["select"]
        summary = {name: record[name] for name in ("kept", "class_counts", "selection_seconds", "selection_mb")}
        run = describe(step, record) | {"summary": summary | {"weights": record["weights"], "warnings": []}}
        with finishing(step, new, record["selection_seconds"]) as target:
            if target is not None:
                copy(folder / "coreset.parquet", target / "coreset.parquet")
                write_json(target / "run.json", run)
    convert_run(cell.steps["train"], folder / "model", new)
    for step, strong in cell.evaluations:
        convert_evaluation(step, strong, folder, record, new)


def convert_run(step: Step, folder: Path, new: Path) -> None:
    """Copy the folder of a scoring run or of a training; its options must be those of the step."""
    run = read(folder / "run.json")
    check_same(step, run["options"])
    run["options"] = {RENAMED.get(name, name): value for name, value in run["options"].items()}
    if "provenance" in run:
        run["provenance"]["options"] = {RENAMED.get(k, k): v for k, v in run["provenance"]["options"].items()}
    with finishing(step, new, run["summary"]["seconds"]) as target:
        if target is None:
            return
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
            if file.name != "run.json":
                copy(file, target / file.relative_to(folder))
        write_json(target / "run.json", run)


def check_same(step: Step, options: Mapping[str, Any]) -> None:
    """Options that both versions know must be the same; what the old one did not know must be at its default."""
    new = vars(KINDS[step.kind].options(**dict(step.options), data="cifar10", out=Path("nowhere")))
    resolved = {"schedule": "onecycle", "augment": "crop-flip", "lr": 0.1, "weight_decay": 0.0005}
    for name, value in options.items():
        name = RENAMED.get(name, name)
        if name in IGNORED or name not in new or name == "hardness":
            continue
        now = resolved[name] if new[name] in (None, "auto") and name in resolved else new[name]
        if name == "checkpoints":
            continue
        assert plain(now) == plain(value), (step.title, name, now, value)


def convert_evaluation(step: Step, strong: bool, folder: Path, record: Mapping[str, Any], new: Path) -> None:
    """The outcomes of one attack at one radius, from the old table of all."""
    (spec,), (eps,), limit = step.options["attack"], step.options["eps"], step.options["limit"]
    every = read_table(folder / "predictions.parquet", {})
    table = read_table(folder / "predictions-strong.parquet", {}) if strong else every
    rows = table.filter(pc.and_(pc.equal(table["attack"], spec), pc.equal(table["eps"], eps)))
    size = limit if limit is not None else record["clean"]["samples"]
    assert rows.num_rows == size, (step.title, rows.num_rows, size)
    clean = every.filter(pc.and_(pc.equal(every["attack"], "clean"), pc.is_in(every["index"], rows["index"])))
    assert clean.num_rows == size
    assert clean["index"].equals(rows["index"])
    lines = record["strong"] if strong else record["attacked"]
    line = next(x for x in lines if x["attack"] == spec and x["eps"] == eps)
    assert line["samples"] == size
    right = size - pc.sum(clean["broken"]).as_py()
    low, high = wilson_interval(right, size)
    described = describe_attacks(EvaluateOptions(**plain_options(step), out=new / "nowhere"), (spec,))
    parameters = {
        name: value for name, value in described[spec].items() if name not in ("eps", "step_size", "strength")
    }
    assert parameters.items() <= record["attacks"][spec].items(), (parameters, record["attacks"][spec])
    summary = {
        "data": record["options"]["data"].partition(":")[0],
        "split": "test",
        "samples": size,
        "model": record["options"]["model"],
        "attacks": described,
        "clean": {**record["clean"], "accuracy": right / size, "low": low, "high": high, "samples": size},
        "attacked": [line],
        "worst": [{name: value for name, value in line.items() if name != "stages"} | {"attack": "worst"}],
        "checks": record["checks"] if eps == record["options"]["main_eps"] and not strong else [],
        "warnings": record["warnings"] if eps == record["options"]["main_eps"] and not strong else [],
    }
    run = describe(step, record) | {"model": record["options"]["model"], "summary": summary}
    share = record["evaluation_seconds"] / max(1, len(record["attacked"]) + len(record["strong"]))
    with finishing(step, new, round(share, 2)) as target:
        if target is not None:
            write_table(pa.concat_tables([clean, rows]), target / "predictions.parquet")
            write_json(target / "evaluation.json", run)


@contextlib.contextmanager
def finishing(step: Step, new: Path, seconds: float) -> Iterator[Path | None]:
    """The folder of a step to fill, or None if it is done; afterwards its record is written."""
    folder = step.folder(new)
    if (folder / STEP_RECORD).exists():
        yield None
        return
    with FileList(new, "plan.json").active():
        make_folder(folder)
    file_list = FileList(folder, KINDS[step.kind].record)
    with file_list.active():
        yield folder
        write_json(folder / STEP_RECORD, describe_step(step, file_list, seconds))


def copy(source: Path, target: Path) -> None:
    """Copy a file, which is listed as written."""
    make_folder(target.parent)
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))


def describe(step: Step, old_record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run as far as version 0.1 kept it."""
    return {
        "schema_version": 1,
        "command": step.kind,
        "status": "done",
        "options": plain(dict(step.options)),
        "command_line": "converted from a cell of version 0.1",
        "versions": old_record["versions"],
    }


def plain_options(step: Step) -> dict[str, Any]:
    """The options of an evaluation that its class takes."""
    return dict(step.options) | {"data": "cifar10", "weights": Path("nowhere")}


def read(file: Path) -> dict[str, Any]:
    """A JSON file."""
    return json.loads(file.read_text())


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return json.loads(json.dumps(value, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
