"""How long the light commands take, from the shell to the prompt."""

import tempfile
from pathlib import Path

from benchmarks.children import EASYCORESET, spend
from benchmarks.timing import median

REPEATS = 7
BUDGET = 1.5  # seconds


def run() -> list[dict]:
    """Help, a choice among small scores, and their page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "scores"
        spend([*EASYCORESET, "score", "--data", "digits", "--epochs", 1, "--threads", 1, "--out", folder])
        commands = {
            "--help": ["--help"],
            "select on 1,438 scores": ["select", "--scores", folder / "scores.parquet", "--fraction", 0.5,
                                       "--out", Path(temporary) / "coreset.parquet"],
            "report on them": ["report", "--out", folder],
        }  # fmt: skip
        rows = []
        for name, arguments in commands.items():
            seconds = [spend([*EASYCORESET, *arguments]).seconds for _ in range(REPEATS)]
            rows.append(median(f"easycoreset {name}, seconds", BUDGET, seconds))
    return rows
