"""Grids that tests run, and how."""

import json
import subprocess
import sys

import pyarrow.compute as pc
import pyarrow.parquet as pq

GRID = [
    "--data",
    "digits",
    "--model",
    "digits-cnn",
    "--methods",
    "random,easycore,middle",
    "--fractions",
    "0.2",
    "--updates",
    "3",
    "--seeds",
    "3",
    "--score.epochs",
    "1",
    "--eps",
    "0.1",
    "--attack",
    "pgd:steps=2",
    "--limit",
    "20",
    "--controls",
    "full",
    "--quiet",
]
HALF = [value if value != "3" or before != "--seeds" else "2" for before, value in zip(["", *GRID], GRID, strict=False)]
SMALL = [
    "--data",
    "digits",
    "--model",
    "digits-cnn",
    "--methods",
    "random,easycore",
    "--fractions",
    "0.2",
    "--updates",
    "3",
    "--seeds",
    "2",
    "--score.epochs",
    "1",
    "--eps",
    "0.1",
    "--attack",
    "fgsm",
    "--workers",
    "1",
    "--controls",
    "full",
    "--quiet",
]


def start(out, arguments, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "easycoreset", "compare", *arguments, *more, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process):
    assert process.wait() == 0, process.stderr.read().decode()
    process.stderr.close()


def results(out, seeds=5):
    """The table of some seeds without times and hosts, in a fixed order."""
    table = pq.read_table(out / "results.parquet").filter(pc.field("seed") < seeds)
    kept = table.drop_columns(["seconds", "selection_seconds", "selection_mb", "host"])
    return kept.sort_by([("cell", "ascending"), ("attack", "ascending"), ("eps", "ascending")])


def done(out, kind="evaluate"):
    """The number of finished steps of a kind."""
    return len(list((out / "steps").glob(f"{kind}-*/step.json")))


def stamps(out):
    """When each finished step was finished."""
    return {file.parent.name: file.stat().st_mtime_ns for file in (out / "steps").glob("*/step.json")}


def record(out):
    return json.loads((out / "plan.json").read_text())
