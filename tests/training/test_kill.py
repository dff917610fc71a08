"""A run that is killed goes on from its checkpoint and ends bit for bit where an uninterrupted one does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from support.messages import named

COMMAND = [
    sys.executable,
    "-m",
    "easycoreset",
    "score",
    "--data",
    "digits",
    "--model",
    "thin-resnet",
    "--epochs",
    "3",
    "--batch-size",
    "4",
    "--augment",
    "crop-flip",
    "--checkpoint-minutes",
    "0.001",
    "--quiet",
]


def start(out, *more):
    return subprocess.Popen([*COMMAND, *more, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def position(out):
    """(epoch, step) of the checkpoint."""
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    return state["epoch"], state["step"]


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kills"), [("exact", 3), ("online", 2)])
def test_killed_at_random_moments(tmp_path, mode, kills):
    rng = random.Random(0)
    killed = tmp_path / "killed"
    middle = 0
    before = (0, 0)
    for _ in range(kills):
        process = start(killed, "--mode", mode)
        wait_for(lambda last=before: (killed / "checkpoint.pt").exists() and position(killed) > last, process)
        time.sleep(rng.uniform(0, 0.4))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr.close()
        before = position(killed)
        middle += before[1] > 0
        assert not (killed / "scores.parquet").exists()
    assert middle > kills // 2, "too few kills fell into the middle of an epoch after the first checkpoint"
    for process in [start(folder, "--mode", mode) for folder in (killed, tmp_path / "whole")]:
        assert process.wait() == 0, process.stderr.read().decode()
        process.stderr.close()
    histories = [
        [{**json.loads(line), "seconds": 0} for line in (folder / "history.jsonl").read_text().splitlines()]
        for folder in (killed, tmp_path / "whole")
    ]
    assert histories[0] == histories[1] and len(histories[0]) == 3
    for name in ("scores.parquet", "model.safetensors", "trajectory/0002.parquet"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_interrupted_says_how_to_go_on_and_a_second_process_is_refused(tmp_path):
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # also where our own parent ignores it
    first = subprocess.Popen([*COMMAND, "--out", tmp_path / "run"], stderr=subprocess.PIPE, preexec_fn=heed)
    wait_for((tmp_path / "run" / "checkpoint.pt").exists, first)
    first.send_signal(signal.SIGSTOP)  # it neither ends nor lets go of the folder while the second one starts
    second = subprocess.run([*COMMAND, "--out", tmp_path / "run"], stderr=subprocess.PIPE, text=True)
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert named(second.stderr, "process", repr(str(tmp_path / "run")))
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 130
    assert named(first.stderr.read().decode(), "interrupted", "checkpoint")
    first.stderr.close()
