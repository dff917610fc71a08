"""Profiles of some training steps: a table of operations and a trace."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from easycoreset.console import log
from easycoreset.files import write_atomic

T = TypeVar("T")
WARMUP = 3  # steps before the profiled ones
STEPS = 20  # steps that are profiled
OPERATIONS = 25  # rows of the table
PARTS = ("batch", "forward", "backward", "update")  # of a step; an adversarial objective's attack counts as forward


def profile_iteration(part: str, values: Iterable[T]) -> Iterator[T]:
    """Yield the same values; the time until each one is counted for `part`."""
    iterator = iter(values)
    while True:
        with record_function(part):
            value = next(iterator, None)
        if value is None:
            return
        yield value


class Profile:
    """Profiles some steps, and writes `profile.txt` and `profile.json` (a trace, for Perfetto or chrome://tracing)."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Start; call `step` after every training step.

        Args:
            folder: where the files are written.
            device: where the model runs.
        """
        self._folder = folder
        self._device = device
        self._written = False
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its messages do not help users
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        steps = schedule(wait=0, warmup=WARMUP, active=STEPS, repeat=1)
        self._profile: Any = profile(activities=activities, schedule=steps, on_trace_ready=self._write)
        self._profile.start()

    def step(self) -> None:
        """Count a finished training step."""
        if self._profile is not None:
            self._profile.step()

    def close(self) -> None:
        """Stop; a run with fewer steps than are profiled is written now."""
        if self._profile is not None:
            self._profile.stop()
        if not self._written:
            log.warning("no profile: it needs more than %d steps without a restart", WARMUP)

    def _write(self, profiler: Any) -> None:
        """Write the operations by self time, and the share of each part in the time of the steps on the host."""
        self._profile = None
        rows = profiler.key_averages()
        if not any(row.key == "forward" for row in rows):
            return
        self._written = True
        total = sum(row.cpu_time_total for row in rows if row.key.startswith("ProfilerStep"))
        shares = {row.key: 100 * row.cpu_time_total / total for row in rows if row.key in PARTS}
        shares["other"] = 100 - sum(shares.values())  # scoring passes and checkpoints between epochs
        summary = ", ".join(f"{part} {shares[part]:.0f}%" for part in (*PARTS, "other") if part in shares)
        if self._device.type == "cuda":  # it runs asynchronously: what matters is that it never waits
            gpu_time = sum(row.self_device_time_total for row in rows if row.device_type.name != "CPU")
            summary += f"; the GPU is busy for {100 * gpu_time / total:.0f}%"
        sort_key = "self_device_time_total" if self._device.type == "cuda" else "self_cpu_time_total"
        table = rows.table(sort_by=sort_key, row_limit=OPERATIONS)
        write_atomic(self._folder / "profile.txt", lambda path: path.write_text(f"{summary}\n\n{table}\n"))
        write_atomic(self._folder / "profile.json", lambda path: profiler.export_chrome_trace(str(path)))
        log.info("time of the training steps: %s; details in %s", summary, self._folder / "profile.txt")
