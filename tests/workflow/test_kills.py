"""Plans against the same ones that were killed, shared or split: no step twice, the same results."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from grids import GRID, HALF, done, finish, record, results, start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "grid"
    finish(start(out, GRID, "--workers", "2"))
    assert done(out, "train") == done(out) == 12  # 3 methods x 3 seeds, and training on everything
    return out


def kill_midway(process, out, seed):
    """Kill a run at a random moment after it has finished a step."""
    before = done(out, "*")
    while done(out, "*") == before and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    assert process.poll() is None, "it ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


@pytest.mark.slow
def test_killed_three_times(whole, tmp_path):
    out = tmp_path / "grid"
    for number in range(3):
        kill_midway(start(out, GRID, "--workers", str(1 + number % 2)), out, seed=number)
    finish(start(out, GRID, "--workers", "2"))
    assert results(out).equals(results(whole))


@pytest.mark.slow
def test_two_runs_on_one_folder_do_no_step_twice(whole, tmp_path):
    out = tmp_path / "grid"
    both = [start(out, HALF, "--workers", "1") for _ in range(2)]
    for process in both:
        finish(process)
    assert results(out).equals(results(whole, seeds=2))
    assert record(out)["status"] == "done"
    begun = {path.name: path.read_text().split() for path in (out / "locks").glob("*-*")}
    assert len([name for name in begun if name.startswith("train")]) == 8
    assert all(len(pids) == 1 for pids in begun.values())
    assert len({pid for pids in begun.values() for pid in pids}) == 2  # both had a share


@pytest.mark.slow
def test_shards_together_equal_the_whole(whole, tmp_path):
    shards = [start(tmp_path / f"{number}", HALF, "--shard", f"{number}/3", "--workers", "1") for number in (1, 2, 3)]
    for shard in shards:
        finish(shard)
    sizes = [done(tmp_path / f"{number}", "train") for number in (1, 2, 3)]
    assert sorted(sizes) == [2, 3, 3]
    together = tmp_path / "together"
    for number in (1, 2, 3):
        shutil.copytree(tmp_path / f"{number}", together, dirs_exist_ok=True)
    finish(start(together, HALF, "--workers", "1"))
    assert results(together).equals(results(whole, seeds=2))


@pytest.mark.slow
def test_outcomes_agree_with_the_results(whole):
    table = pq.read_table(whole / "results.parquet").to_pylist()
    for row in table[:20]:
        file = whole / "steps" / f"evaluate-{row['evaluation']}" / "predictions.parquet"
        outcomes = pq.read_table(file).to_pandas()
        at = outcomes[(outcomes["attack"] == row["attack"]) & np.isclose(outcomes["eps"], row["eps"])]
        assert 1 - at["broken"].mean() == pytest.approx(row["accuracy"]) and len(at) == row["samples"]
        clean = outcomes[outcomes["attack"] == "clean"]
        assert (clean["broken"] == (clean["pred"] != clean["label"])).all()
        if row["eps"] == row["main"]:
            assert 1 - clean["broken"].mean() == pytest.approx(row["clean"])


RUN = ["run", "--data", "digits", "--epochs", "3", "--limit", "60", "--attack", "pgd:steps=5", "--eps", "0.05,0.1"]
ANALYZE = ["analyze", "--data", "digits", "--epochs", "2", "--limit", "60", "--margins", "30", "--adversarial"]
ANALYZE += ["trades:steps=2", "--eps", "0.05"]
PLANS = {"run": (RUN, "comparison.json"), "analyze": (ANALYZE, "analysis.json")}


def begin(command, out, *more):
    line = [sys.executable, "-m", "easycoreset", *PLANS[command][0], "--quiet", *more, "--out", out]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module", params=PLANS)
def undisturbed(request, tmp_path_factory):
    """The command, and what it sums up to when nothing disturbs it."""
    out = tmp_path_factory.mktemp(request.param) / "plan"
    finish(begin(request.param, out))
    return request.param, out


def summary(command, out):
    return json.loads((out / PLANS[command][1]).read_text())


@pytest.mark.slow
def test_other_plans_are_killed_and_shared_too(undisturbed, tmp_path):
    """Killed in its own process, with workers and on Ray, then finished by one process with workers and one on Ray."""
    pytest.importorskip("ray")
    command, whole = undisturbed
    out = tmp_path / "killed"
    steps = len(list((whole / "steps").iterdir()))
    for number, where in enumerate([[], ["--workers", "2"], ["--on", "ray"]]):
        kill_midway(begin(command, out, *where), out, seed=number)
    for process in [begin(command, out, *where) for where in (["--workers", "1"], ["--on", "ray"])]:
        finish(process)
    assert summary(command, out) == summary(command, whole)
    assert len(list(out.glob("steps/*/step.json"))) == steps
    for file in sorted(whole.glob("steps/*/*.parquet")):
        assert pq.read_table(file).equals(pq.read_table(out / file.relative_to(whole))), file
