"""Several processes of one run: the same numbers as one, one that writes, and an end that the next start goes on from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from easycoreset import Scores, load_model, score, train
from easycoreset.cli.launcher import PROCESS_LOST
from support.messages import named

N = 103
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def torchrun(processes, *arguments):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--master-port",
        "0",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
        *map(str, arguments),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def assert_same(found, expected, tolerance=1e-6):
    assert set(found.columns) == set(expected.columns) and len(found.columns) >= 10
    assert found.n_obs.tolist() == expected.n_obs.tolist()
    for name, values in expected.columns.items():
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name)


def test_somebodys_loop_gives_the_scores_of_one_process(tmp_path):
    """Padding duplicates and dropped tails change nothing: what was seen has the value of the frozen model."""
    scores = {}
    facts = {}
    for processes in (1, 2, 3):
        (folder := tmp_path / str(processes)).mkdir()
        finish(torchrun(processes, "tests/support/ddp_loop.py", folder))
        for name in ("padded", "dropped"):
            scores[name, processes] = Scores.read(folder / f"{name}.parquet")
            facts[name, processes] = json.loads((folder / f"{name}.json").read_text())
            assert facts[name, processes]["world_size"] == processes
    whole = scores["padded", 1]
    assert (whole.n_obs == 2).all()
    for processes in (2, 3):
        seen = np.array(facts["padded", processes]["seen"])
        assert (seen >= 2).all() and seen.sum() == 2 * processes * -(-N // processes)  # padded: some were seen thrice
        assert_same(scores["padded", processes], whole)
    for processes in (1, 2, 3):
        dropped = scores["dropped", processes]
        seen = np.array(facts["dropped", processes]["seen"])
        assert dropped.n_obs.tolist() == seen.tolist() and (seen < 2).any()
        both = seen == 2
        for name in ("aign_online", "loss_online", "aum_online", "grand_online"):
            np.testing.assert_allclose(dropped[name][both], whole[name][both], rtol=1e-6, atol=1e-6)
            assert np.isnan(dropped[name][seen == 0]).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory, digits):
    """103 samples of digits."""
    file = tmp_path_factory.mktemp("small") / "small.npz"
    split = digits.splits["train"]
    pixels = split.images.pixels[..., 0].numpy()
    np.savez(file, x=pixels[:N], y=split.labels[:N], x_test=pixels[N : N + 50], y_test=split.labels[N : N + 50])
    return file


@pytest.mark.parametrize("mode", ["exact", "online"])
def test_our_own_run_gives_the_scores_of_one_process(mode, small, tmp_path):
    options = {
        "data": str(small),
        "model": "tests.support.factories:plain",
        "epochs": 2,
        "batch_size": 8,
        "lr": 0,
        "weight_decay": 0,
    }
    more = {} if mode == "online" else {"hardness": ["cheap", "vog"]}
    whole = score(**options, **more, mode=mode, out=tmp_path / "1")
    for processes in (2, 3) if mode == "exact" else (2,):
        flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        flags += ["--hardness", "cheap,vog"] if more else []
        out, err = finish(
            torchrun(
                processes,
                "-m",
                "easycoreset",
                "score",
                *flags,
                "--mode",
                mode,
                "--json",
                "--out",
                tmp_path / str(processes),
            )
        )
        record = json.loads(out)  # one object: the first process alone speaks
        assert record["summary"]["processes"] == processes and err.count("resuming from") == 0
        assert_same(Scores.read(tmp_path / str(processes) / "scores.parquet"), whole)


def test_an_update_is_that_of_the_whole_batch(small, tmp_path):
    """Without batch norm two processes train what one does, also where the last batch is too small to share."""
    options = [
        "--data",
        small,
        "--model",
        "tests.support.factories:plain",
        "--epochs",
        3,
        "--batch-size",
        20,
    ]  # 20 * 5 + 3
    finish(torchrun(2, "-m", "easycoreset", "train", *options, "--quiet", "--out", tmp_path / "two"))
    train(data=str(small), model="tests.support.factories:plain", epochs=3, batch_size=20, out=tmp_path / "one")
    models = [load_model(tmp_path / name, model="tests.support.factories:plain") for name in ("one", "two")]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are named in /proc")
def test_who_leaves_takes_its_threads_along(tmp_path):
    """A thread of the group that lives on aborts a process that is ending, now and then."""
    finish(torchrun(2, "tests/support/leaving.py", tmp_path))
    for rank in "01":
        threads = (tmp_path / rank).read_text().split("\n")
        assert "python" in threads[0] and not [name for name in threads if "gloo" in name]


def test_a_process_that_dies_ends_the_run_and_one_process_goes_on(tmp_path):
    options = [
        "score",
        "--data",
        "digits",
        "--model",
        "digits-cnn",
        "--epochs",
        4,
        "--batch-size",
        4,
        "--mode",
        "online",
        "--checkpoint-minutes",
        "0.001",
        "--out",
        tmp_path / "run",
    ]
    process = torchrun(2, "-m", "easycoreset", *options)
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode != 0 and not (tmp_path / "run" / "scores.parquet").exists()
    assert PROCESS_LOST in err or "SIGKILL" in err
    state = torch.load(checkpoint, weights_only=True)
    assert (state["epoch"], state["step"]) > (1, 0)
    ran = subprocess.run(
        [sys.executable, "-m", "easycoreset", *map(str, options), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert ran.returncode == 0 and "resuming" in ran.stderr, ran.stderr
    scores = Scores.read(tmp_path / "run" / "scores.parquet")
    assert json.loads(ran.stdout)["summary"]["processes"] == 1
    assert np.isfinite(scores["aign_online"]).all() and scores.n_obs.max() == 4 and scores.n_obs.min() >= 3


def test_other_commands_are_refused(tmp_path):
    process = torchrun(
        2,
        "-m",
        "easycoreset",
        "compare",
        "--data",
        "digits",
        "--methods",
        "random",
        "--fractions",
        "0.1",
        "--updates",
        1,
        "--out",
        tmp_path / "grid",
    )
    _, err = process.communicate()
    assert process.returncode != 0 and named(err, "compare", "torchrun", "score", "train")
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("method", "fraction"),
    [("rs2", 0.3), ("infobatch", None), ("acs-craig:every=2:warm=0.3", 0.3), ("easiest-now", 0.3), ("seta", None)],
)
def test_two_processes_train_on_the_rows_of_one(tmp_path, method, fraction):
    """A model without batch norm: choices, counts and, up to rounding, weights of a single process."""
    options = ["--data", "digits", "--model", "tests.support.dynamic:plain", "--epochs", "4", "--method", method]
    options += [] if fraction is None else ["--fraction", fraction]
    finish(torchrun(2, "-m", "easycoreset", "train", *options, "--quiet", "--out", tmp_path / "two"))
    train(
        data="digits",
        model="tests.support.dynamic:plain",
        epochs=4,
        method=method,
        fraction=fraction,
        out=tmp_path / "one",
    )
    facts = [json.loads((tmp_path / n / "run.json").read_text())["summary"]["sampling"] for n in ("one", "two")]
    for name in ("mean_share", "distinct_samples", "times_trained", "changed", "selection_passes"):
        assert facts[0][name] == facts[1][name], name
    assert facts[0]["present_loss_of_all"] == pytest.approx(facts[1]["present_loss_of_all"], rel=1e-4)
    one, two = (load_model(tmp_path / n, "tests.support.dynamic:plain").state_dict() for n in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
