"""A few cases of the fuzzer, over every kind of file; `python -m fuzz` does as many as one likes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = 82  # one of each kind


@pytest.mark.slow
def test_damaged_files_of_every_kind_end_in_a_message(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "fuzz",
        "--cases",
        str(CASES),
        "--seed",
        "15",
        "--seconds",
        "600",  # of a case: a hang, not a slow machine
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
