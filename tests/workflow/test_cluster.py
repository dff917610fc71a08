"""A grid on a Ray cluster: the same results as here, also when a machine is lost midway."""

import dataclasses
import json
import os
import sys
import tempfile
import time
from importlib.metadata import version

import pytest
from grids import SMALL, done, finish, record, results, start

from easycoreset.data import cached_sources, make_path_absolute
from easycoreset.options import CompareOptions
from easycoreset.workflow.cluster import read_files, run_remote_step, write_files
from easycoreset.workflow.comparing import plan_comparison
from easycoreset.workflow.worker import Machine
from support.messages import named

ray = pytest.importorskip("ray")
GRID = [
    "--data",
    "digits",
    "--methods",
    "random,moderate",
    "--fractions",
    "0.3",
    "--updates",
    "150",
    "--seeds",
    "1",
    "--score.epochs",
    "2",
    "--eps",
    "0.05",
    "--attack",
    "fgsm",
    "--controls",
    "none",
    "--quiet",
]


def grid(methods):
    place = SMALL.index("--workers")
    line = [methods if value.startswith("random,") else value for value in (*SMALL[:place], *SMALL[place + 2 :])]
    return ["1" if before == "--seeds" else value for before, value in zip(["", *line], line, strict=False)]


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one CPU each, as far as Ray knows; the last test that uses them loses one."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    alone = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    found = Cluster(initialize_head=True, head_node_args=alone)
    try:
        yield found, found.add_node(num_cpus=1, object_store_memory=100_000_000)
    finally:
        found.shutdown()


@pytest.mark.slow
def test_heads_share_a_folder_and_a_grid_is_extended(cluster, tmp_path):
    """Scores are made once, by whichever head comes first; a later start measures what its methods need besides."""
    place = tmp_path / "ray"
    ray_on = ["--on", f"ray:{cluster[0].address}"]

    heads = [start(place, grid("random,easycore,hardest"), *ray_on, "--shard", f"{k}/2") for k in (1, 2)]
    for head in heads:
        finish(head)
    assert done(place) == 4
    began = {file: json.loads(file.read_text())["started"] for file in place.glob("steps/score-*/run.json")}
    finish(start(place, grid("random,moderate"), *ray_on))
    assert {file: json.loads(file.read_text())["started"] for file in began} == began and len(began) == 1
    assert done(place, "score") == done(place, "measure") == 1 and done(place) == 5
    assert {cell["data"] for cell in record(place)["cells"]} == {"digits"}

    finish(start(place, grid("easiest-now,infobatch"), *ray_on))  # which choose while they train
    finish(start(tmp_path / "here", [*grid("easiest-now,infobatch"), "--workers", "1"]))
    here, there = (results(folder).to_pylist() for folder in (tmp_path / "here", place))
    chosen = [row for row in there if row["method"].startswith(("easiest-now", "infobatch"))]
    assert len(chosen) == 2
    local = {row["cell"]: row for row in here}  # with fewer columns: its cells differ in fewer options
    assert [{name: row[name] for name in local[row["cell"]]} for row in chosen] == [
        local[row["cell"]] for row in chosen
    ]


@pytest.mark.slow
def test_a_machine_is_lost_midway(cluster, tmp_path):
    both, second = cluster
    process = start(tmp_path / "ray", [*GRID, "--on", f"ray:{both.address}"])
    while not done(tmp_path / "ray"):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    assert done(tmp_path / "ray") < 2
    both.remove_node(second, allow_graceful=False)
    finish(process)
    finish(start(tmp_path / "here", [*GRID, "--workers", "2"]))
    assert done(tmp_path / "ray") == 2 and results(tmp_path / "ray").equals(results(tmp_path / "here"))
    finish(start(tmp_path / "ray", [*GRID, "--on", "ray:127.0.0.1:1"]))  # nothing is left to do: nobody is asked


def test_spellings_mean_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "digits").mkdir()  # the bundled set is meant all the same
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert make_path_absolute("photos") == str(tmp_path / "photos") and make_path_absolute("link") == str(
        tmp_path / "link"
    )
    assert make_path_absolute("cifar10:photos") == f"cifar10:{tmp_path / 'photos'}"
    assert [make_path_absolute(data) for data in ("digits", "hf:owner/name", "gone")] == [
        "digits",
        "hf:owner/name",
        "gone",
    ]


def first_step(method):
    options = CompareOptions(data="digits", methods=method, controls="none", fractions=1, updates=1, seeds=1, out="x")
    return plan_comparison(options).cells[0].steps["train"]


@cached_sources()  # a step keeps its process's data open
def test_a_task_that_fails_says_why(tmp_path, monkeypatch):
    step = first_step("full")
    found = run_remote_step(step, Machine(tmp_path), [], "x", "0.0.0")
    assert found[1] is None and found[0].status == "failed" and "0.0.0" in found[0].reason
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = tmp_path / f"easycoreset-{os.getuid()}" / "old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    wrong = dataclasses.replace(step, options={**step.options, "model": "no-such"})
    found = run_remote_step(wrong, Machine(tmp_path), [], "x", version("easycoreset"))
    assert found[0].status == "failed" and "no-such" in found[0].reason and not old.exists()
    inputs = step.inputs | {"data": step.inputs["data"]._replace(key="other")}
    other = dataclasses.replace(step, inputs=inputs)
    found = run_remote_step(other, Machine(tmp_path), [], "x", version("easycoreset"))
    assert found[0].status == "failed" and "digits differs from the data" in found[0].reason


def test_no_cluster_and_no_ray_are_one_line(cli, tmp_path, monkeypatch):
    ran = cli("compare", *GRID, "--on", "ray:127.0.0.1:1", "--out", tmp_path / "a")
    assert ran.code == 2 and ran.err.count("\n") == 1 and not ran.out
    assert named(ran.err, "on: ", "127.0.0.1:1", "pip install easycoreset[ray]")
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = cli("compare", *GRID, "--on", "ray", "--out", tmp_path / "b")
    assert ran.code == 2 and ran.err.count("\n") == 1 and named(ran.err, "on: ", "pip install easycoreset[ray]")
    ran = cli("compare", *GRID, "--on", "slurm", "--out", tmp_path / "c")
    assert ran.code == 2 and named(ran.err, "on ", "ray:HOST:PORT", "'slurm'")
    ran = cli("compare", *GRID, "--on", "ray", "--dry-run", "--out", tmp_path / "d")
    assert ran.code == 2 and named(ran.err, "workers ", "on", "dry_run")


def test_files_travel(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"1")
    (tmp_path / "a" / "checkpoint.pt").write_bytes(b"2")
    files = read_files(tmp_path / "a")
    assert files == {"b/x": b"1"}
    write_files(files, tmp_path / "c" / "new")
    write_files({"y": b"3"}, tmp_path / "c" / "new")  # whoever comes second gives way
    assert read_files(tmp_path / "c" / "new") == files
    assert os.listdir(tmp_path / "c") == ["new"]


@pytest.mark.slow
def test_steps_share_a_gpu_of_the_cluster(tmp_path):
    """A machine that tells Ray of one GPU, which PyTorch does not find there: the steps compute on its CPU, two at once."""
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    found = Cluster(initialize_head=True, head_node_args=machine)
    try:
        for given, at_once in (((), 1), (("--workers-per-gpu", "2"), 2)):
            line = [value for value in grid("random") if value != "--quiet"]
            head = start(tmp_path / str(at_once), line, "--on", f"ray:{found.address}", *given)
            _, said = head.communicate()
            assert head.returncode == 0 and named(said.decode(), f"1 machine, {at_once} steps at once"), said.decode()
            assert done(tmp_path / str(at_once)) > 0
    finally:
        found.shutdown()
