"""Shared fixtures: real images, a scored and trained model, and the command line in-process."""

import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from easycoreset import open_source, score
from easycoreset.cli import main

MUST_RUN = {"real_data", "browser"}  # marks of tests that need what only some machines have

torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's library: no test fetches anything


def pytest_collection_modifyitems(items):
    reason = "real_data: EASYCORESET_DATA is not set"
    for item in items:
        if "real_data" in item.keywords and not os.environ.get("EASYCORESET_DATA"):
            item.add_marker(pytest.mark.skip(reason=reason))
    if (
        "SLOW_TESTS_ORDER" in os.environ
    ):  # the files in an order of their own, by this text, but first those that must run
        files = sorted({item.path for item in items})
        random.Random(os.environ["SLOW_TESTS_ORDER"]).shuffle(files)
        needed = {item.path for item in items if MUST_RUN & set(item.keywords)}
        items.sort(key=lambda item: (item.path not in needed, files.index(item.path)))


def pytest_runtest_setup(item):
    until = float(os.environ.get("SLOW_TESTS_UNTIL", "inf"))
    if "slow" in item.keywords and time.time() > until and not MUST_RUN & set(item.keywords):
        pytest.skip("no time is left for slow tests (SLOW_TESTS_UNTIL)")


@pytest.fixture(scope="session")
def data_root():
    return Path(os.environ["EASYCORESET_DATA"])


@pytest.fixture(scope="session")
def digits():
    return open_source("digits")


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """A folder that `score` wrote: digits, 5 epochs."""
    folder = tmp_path_factory.mktemp("scored") / "run"
    score(data="digits", epochs=5, out=folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def _few_processes():
    """Steps run in this process where nothing is said of workers: starting processes takes seconds."""
    from support import inline_pool

    with pytest.MonkeyPatch.context() as patch:
        inline_pool.use(patch, always=False)
        yield


@pytest.fixture
def inline(monkeypatch):
    """Compute cells in this process, whatever is said of workers."""
    from support import inline_pool

    inline_pool.use(monkeypatch, always=True)


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(capsys):
    """Run the command line in this process."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def png_folder(tmp_path, digits):
    """An image folder of real images: 3 classes x 12 digits as PNG files, without a test split."""
    from PIL import Image

    split = digits.splits["train"]
    for label in range(3):
        for row in np.flatnonzero(split.labels == label)[:12]:
            place = tmp_path / "images" / f"class {label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images.pixels[row, :, :, 0].numpy()).resize((20, 16)).save(place / f"{row}.png")
    return tmp_path / "images"


def close32(found, expected):
    """METHODS.md's float32 rule: |a - b| <= 1e-4 |b| + 1e-6 max|b|, 0.1% of the rows exempt."""
    found = np.asarray(found, float)
    expected = np.asarray(expected, float)
    off = np.abs(found - expected) > 1e-4 * np.abs(expected) + 1e-6 * np.abs(expected).max()
    return off.mean() <= 0.001
