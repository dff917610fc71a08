"""How long the light commands take, from the shell to the prompt."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.children import EASYCORESET, spend
from benchmarks.timing import median

REPEATS = 7
BUDGET = 1.5  # seconds


def write_photos(folder: Path) -> None:
    """1,250 images of ten classes."""
    rng = np.random.default_rng(0)
    for row in range(1250):
        place = folder / str(row % 10) / f"{row:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place)


def run() -> list[dict]:
    """Help, a choice among small scores of images in files, and their page (that of arrays opens them with torch)."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "scores"
        photos = Path(temporary) / "photos"
        write_photos(photos)
        spend(
            [*EASYCORESET, "score", "--data", photos, "--image-size", 8, "--epochs", 1, "--threads", 1, "--out", folder]
        )
        commands = {
            "--help": ["--help"],
            "select on 1,000 scores": [
                "select",
                "--scores",
                folder / "scores.parquet",
                "--fraction",
                0.5,
                "--out",
                Path(temporary) / "coreset.parquet",
            ],
            "report on them": ["report", "--out", folder],
        }
        rows = []
        for name, arguments in commands.items():
            seconds = [spend([*EASYCORESET, *arguments]).seconds for _ in range(REPEATS)]
            rows.append(median(f"easycoreset {name}, seconds", BUDGET, seconds))
    return rows
