"""Two processes beside one, on two cores: whole commands, with the seconds in which they start."""

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.children import EASYCORESET, spend
from benchmarks.timing import ratio

SAMPLES = 20_480
REPEATS = 3
TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--master-port",
    "0",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "localhost:0",
    "-m",
    "easycoreset",
)
GRID = (
    "--data",
    "digits",
    "--methods",
    "random",
    "--controls",
    "none",
    "--fractions",
    "0.1,0.2,0.3,0.4",
    "--updates",
    "300",
    "--seeds",
    "2",
    "--attack",
    "pgd:steps=10",
    "--eps",
    "0.1",
)


def run(samples: int = SAMPLES, repeats: int = REPEATS) -> list[dict]:
    """Two must not be slower than one; how far from a half they stay is what this measures."""
    rng = np.random.default_rng(0)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = (Path(temporary) / str(number) for number in itertools.count())
        data = Path(temporary) / "data.npz"
        np.savez(
            data,
            x=rng.integers(0, 256, (samples, 32, 32, 3), dtype=np.uint8),
            y=np.arange(samples) % 10,
            x_test=np.zeros((10, 32, 32, 3), np.uint8),
            y_test=np.arange(10),
        )

        def once(*command: object) -> Callable[[], object]:
            return lambda: spend([*command, "--out", next(folders)])

        for name in ("score", "train"):
            options = (name, "--data", data, "--model", "thin-resnet", "--epochs", 1, "--threads", 1)
            two = once(*TORCHRUN, *options)
            one = once(*EASYCORESET, *options)
            what = f"{name} by two processes / by one, {samples:,} samples (thin-resnet)"
            rows.append(ratio(what, 1.0, two, one, repeats=repeats, warm=0))
        two, one = (once(*EASYCORESET, "compare", *GRID, "--workers", workers) for workers in (2, 1))
        rows.append(ratio("a grid of 8 cells by two workers / by one", 1.0, two, one, repeats=repeats, warm=0))
    return rows
