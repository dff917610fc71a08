"""What a command costs as a process of its own: wall time and peak memory.

A process's peak counts the memory of the one that started it, so `python -m benchmarks.children COMMAND` stands
between: it imports next to nothing, starts the command, and prints what it cost as JSON.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
EASYCORESET = (sys.executable, "-m", "easycoreset")


class Cost(NamedTuple):
    """Seconds of wall time, MB of the largest process at its peak, and what the command printed."""

    seconds: float
    mb: float
    out: str


def spend(command: Sequence[object], folder: Path | None = None) -> Cost:
    """Run a command with one thread a process, in this folder or another.

    Raises:
        RuntimeError: it failed; its last lines are named.
    """
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    between = [sys.executable, "-m", "benchmarks.children", *map(str, command)]
    done = subprocess.run(between, env=env, cwd=folder, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found["code"]:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {found['code']}: {found['err'][-2000:]}")
    return Cost(found["seconds"], found["mb"], found["out"])


def _stand_between(command: Sequence[str]) -> None:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        json.dumps(
            {"seconds": seconds, "mb": peak / 1e6, "code": done.returncode, "out": done.stdout, "err": done.stderr}
        )
    )


if __name__ == "__main__":
    _stand_between(sys.argv[1:])
