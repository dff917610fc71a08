"""A whole grid against the same one that was killed, shared or split: no cell twice, the same results."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from grids import GRID, HALF, done, finish, results, start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "grid"
    finish(start(out, GRID, "--workers", "2"))
    assert done(out) == 48  # 5 methods x 3 fractions x 3 seeds, and training on everything
    return out


@pytest.mark.slow
def test_killed_four_times(whole, tmp_path):
    rng = random.Random(0)
    out = tmp_path / "grid"
    kills = 0
    while kills < 4:
        process = start(out, GRID, "--workers", str(1 + kills % 2))
        before = done(out)
        while done(out) < before + 1 and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.0))
        assert process.poll() is None, "it ended before it could be killed four times"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        kills += 1
    finish(start(out, GRID, "--workers", "2"))
    assert results(out).equals(results(whole))
    assert not list((out / "cells").glob(".*"))


@pytest.mark.slow
def test_two_runs_on_one_folder_do_no_cell_twice(whole, tmp_path):
    out = tmp_path / "grid"
    both = [start(out, HALF, "--workers", "1") for _ in range(2)]
    for process in both:
        finish(process)
    assert results(out).equals(results(whole, seeds=2))
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    begun = {path.name: path.read_text().split() for path in (out / "locks").glob("cell-*")}
    assert len(begun) == 32 and all(len(pids) == 1 for pids in begun.values())
    assert len({pid for pids in begun.values() for pid in pids}) == 2  # both had a share


@pytest.mark.slow
def test_shards_together_equal_the_whole(whole, tmp_path):
    shards = [start(tmp_path / f"{number}", HALF, "--shard", f"{number}/3", "--workers", "1") for number in (1, 2, 3)]
    for shard in shards:
        finish(shard)
    sizes = [done(tmp_path / f"{number}") for number in (1, 2, 3)]
    assert sorted(sizes) == [10, 11, 11]
    together = tmp_path / "together"
    for number in (1, 2, 3):
        shutil.copytree(tmp_path / f"{number}", together, dirs_exist_ok=True)
    finish(start(together, HALF, "--workers", "1"))
    assert results(together).equals(results(whole, seeds=2))


def test_outcomes_agree_with_the_results(whole):
    table = pq.read_table(whole / "results.parquet").to_pylist()
    for row in table[:20]:
        outcomes = pq.read_table(whole / "cells" / row["cell"] / "predictions.parquet").to_pandas()
        at = outcomes[(outcomes["attack"] == row["attack"]) & np.isclose(outcomes["eps"], row["eps"])]
        assert 1 - at["broken"].mean() == pytest.approx(row["accuracy"]) and len(at) == row["samples"]
        clean = outcomes[outcomes["attack"] == "clean"]
        assert (clean["broken"] == (clean["pred"] != clean["label"])).all()
        assert 1 - clean["broken"].mean() == pytest.approx(row["clean"])
