"""How the cost of one exact scoring pass grows with the data: images streamed from files, thin ResNet.

`python -m benchmarks.growth [--sizes ROWS ...] [--pixels SIDE] [--result FILE]` measures some sizes, each in a process
of its own, puts them among those in FILE (results/growth-cpu.json), and draws FILE's .svg.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.__main__ import describe
from benchmarks.children import spend
from benchmarks.scatter import scatter
from easycoreset.data import Split
from easycoreset.data.images import FileImages
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard

SIZES = {32: (10_000, 50_000, 200_000, 1_281_167), 64: (10_000, 50_000, 200_000)}
BATCH = 250
DISTINCT = 200  # images; the others are links to them
CLASSES = 10
LINEAR = 1.1  # seconds per row of the largest / of the smallest
RESULT = Path("results/growth-cpu.json")


def write_images(folder: Path, rows: int, pixels: int) -> None:
    """A folder of `rows` JPEG files in folders of a thousand, hard links to a few where the file system has them."""
    rng = np.random.default_rng(0)
    originals = []
    for row in range(rows):
        place = folder / f"{row // 1000:04d}" / f"{row:07d}.jpg"
        if row % 1000 == 0:
            place.parent.mkdir(parents=True)
        if row < DISTINCT:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((pixels, pixels), Image.Resampling.BICUBIC).save(place, quality=90)
            originals.append(place)
            continue
        try:
            os.link(originals[row % DISTINCT], place)
        except OSError:
            shutil.copyfile(originals[row % DISTINCT], place)


def pass_over(folder: Path, pixels: int) -> dict:
    """In a process of its own: one pass with all the measures of the default, decoding included."""
    torch.set_num_threads(1)
    paths = sorted(folder.glob("*/*.jpg"))
    size = len(paths)
    split = Split("train", FileImages(paths, pixels), np.arange(size) % CLASSES, [path.name for path in paths], "")
    names = tuple(map(str, range(CLASSES)))
    card = ModelCard(
        model="thin-resnet", shape=(3, pixels, pixels), mean=(0.5,) * 3, std=(0.25,) * 3, class_names=names
    )
    torch.manual_seed(0)
    model = build_model(card).to(memory_format=torch.channels_last)
    started = time.perf_counter()
    found = measure_all(model, lambda: split.batches(np.arange(size), BATCH), size, load_hardness(()))
    seconds = time.perf_counter() - started
    assert all(np.isfinite(values).all() for values in found.values())
    return {"rows": size, "pixels": pixels, "seconds": round(seconds, 2)}


def measure(rows: int, pixels: int) -> dict:
    """Seconds, seconds per 1,000 rows and peak memory of one pass, in images written for it and removed after it."""
    Path("runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="runs", prefix="growth-") as temporary:
        folder = Path(temporary)
        write_images(folder, rows, pixels)
        cost = spend([sys.executable, "-m", "benchmarks.growth", "--over", folder, "--pixels", pixels])
    found = json.loads(cost.out)
    per_thousand = round(1000 * found["seconds"] / rows, 4)
    return found | {"seconds_per_1000_rows": per_thousand, "peak_mb": round(cost.mb, 1)}


def run() -> list[dict]:
    """All sizes: how far seconds per row stay the same."""
    records = [measure(rows, pixels) for pixels, sizes in SIZES.items() for rows in sizes]
    return linear(records)


def linear(records: list[dict]) -> list[dict]:
    """Seconds per row of the largest size beside the smallest, for each side in pixels that has two."""
    found = []
    for pixels in sorted({record["pixels"] for record in records}):
        own = [record for record in records if record["pixels"] == pixels]
        first = own[0]
        last = own[-1]
        if first is not last:
            what = f"seconds per row at {last['rows']:,} / at {first['rows']:,} rows, {pixels} pixels"
            measured = last["seconds_per_1000_rows"] / first["seconds_per_1000_rows"]
            found.append({"what": what, "budget": LINEAR, "measured": round(measured, 3)})
    return found


def merge(old: list[dict], new: list[dict]) -> list[dict]:
    """The records of both, the new one where both have a size, in order."""
    both = {(record["pixels"], record["rows"]): record for record in [*old, *new]}
    return [both[size] for size in sorted(both)]


def draw(records: list[dict], file: Path) -> None:
    """Seconds over rows."""
    series = {
        f"{pixels} x {pixels} pixels": [(r["rows"], r["seconds"]) for r in records if r["pixels"] == pixels]
        for pixels in sorted({record["pixels"] for record in records})
    }
    title = "One exact scoring pass, thin ResNet, one CPU thread (dashed: proportional)"
    file.write_text(scatter(title, "rows", "seconds", series))


def main() -> None:
    """Measure what is asked for, and write after each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--sizes", type=int, nargs="+", help="rows; left out: all of this side's")
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--over", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.over is not None:
        print(json.dumps(pass_over(asked.over, asked.pixels)))
        return
    torch.set_num_threads(1)
    facts = describe()
    for rows in asked.sizes or SIZES.get(asked.pixels, SIZES[64]):
        record = measure(rows, asked.pixels) | {"commit": facts["commit"], "date": facts["date"]}
        print(
            f"{rows:9,} rows of {asked.pixels} pixels: {record['seconds']:8.1f} s, "
            f"{record['seconds_per_1000_rows']:.3f} s per 1,000, {record['peak_mb']:.0f} MB",
            flush=True,
        )
        old = json.loads(asked.result.read_text())["rows"] if asked.result.exists() else []
        records = merge(old, [record])
        command = "python -m benchmarks.growth [--sizes ROWS ...] [--pixels SIDE]"
        whole = {
            **facts,
            "command": command,
            "seed": 0,
            "model": "thin-resnet",
            "batch_size": BATCH,
            "linear": linear(records),
            "rows": records,
        }
        asked.result.write_text(json.dumps(whole, indent=1) + "\n")
        draw(records, asked.result.with_suffix(".svg"))


if __name__ == "__main__":
    main()
