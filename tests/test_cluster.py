"""A grid on a Ray cluster: the same results as here, also when a machine is lost midway."""

import os
import sys
import time

import pytest

from easycoreset.experiment.cluster import gather, put
from grids import done, finish, results, start

ray = pytest.importorskip("ray")
GRID = ["--data", "digits", "--methods", "easycore,moderate", "--fractions", "0.3", "--updates", "150", "--seeds", "2",
        "--scoring-epochs", "2", "--eps", "0.05", "--attack", "fgsm", "--quiet"]  # fmt: skip


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one CPU each, as far as Ray knows."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    alone = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    found = Cluster(initialize_head=True, head_node_args=alone)
    try:
        yield found, found.add_node(num_cpus=1, object_store_memory=100_000_000)
    finally:
        found.shutdown()


@pytest.mark.slow
def test_a_machine_is_lost_midway(cluster, tmp_path):
    both, second = cluster
    process = start(tmp_path / "ray", [*GRID, "--on", f"ray:{both.address}"])
    while not done(tmp_path / "ray"):
        assert process.poll() is None
        time.sleep(0.05)
    assert done(tmp_path / "ray") < 6
    both.remove_node(second, allow_graceful=False)
    finish(process)
    finish(start(tmp_path / "here", [*GRID, "--workers", "2"]))
    assert done(tmp_path / "ray") == 6 and results(tmp_path / "ray").equals(results(tmp_path / "here"))
    finish(start(tmp_path / "ray", [*GRID, "--on", "ray:127.0.0.1:1"]))  # nothing is left to do: nobody is asked


def test_no_cluster_and_no_ray_are_one_line(cli, tmp_path, monkeypatch):
    ran = cli("compare", *GRID, "--on", "ray:127.0.0.1:1", "--out", tmp_path / "a")
    assert ran.code == 2 and ran.err.count("\n") == 1 and not ran.out
    assert "on: no Ray cluster answers at 127.0.0.1:1" in ran.err and "pip install easycoreset[ray]" in ran.err
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = cli("compare", *GRID, "--on", "ray", "--out", tmp_path / "b")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "on: ray needs Ray: pip install easycoreset[ray]" in ran.err
    ran = cli("compare", *GRID, "--on", "slurm", "--out", tmp_path / "c")
    assert ran.code == 2 and "on must be ray or ray:ADDRESS; got 'slurm'" in ran.err


def test_files_travel(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"1")
    (tmp_path / "a" / "checkpoint.pt").write_bytes(b"2")
    files = gather(tmp_path / "a")
    assert files == {"b/x": b"1"}
    put(files, tmp_path / "c" / "new")
    put({"y": b"3"}, tmp_path / "c" / "new")  # whoever comes second gives way
    assert gather(tmp_path / "c" / "new") == files
    put({"y": b"3"}, tmp_path / "c" / "new", replace=True)
    assert gather(tmp_path / "c" / "new") == {"y": b"3"} and os.listdir(tmp_path / "c") == ["new"]
