"""Where the time of training steps goes: a table and a trace of some of them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from easycoreset.console import log
from easycoreset.files import write_atomic

T = TypeVar("T")
WARM = 3  # steps before, steps that are looked at, rows of the table
STEPS = 20
OPERATIONS = 25
PARTS = ("batch", "forward", "backward", "update")  # of a step; an adversarial objective's attack is in its forward


def each_in(part: str, values: Iterable[T]) -> Iterator[T]:
    """The same values; the time that it takes to get one counts for `part`."""
    iterator = iter(values)
    while True:
        with record_function(part):
            value = next(iterator, None)
        if value is None:
            return
        yield value


class Profile:
    """Looks at some steps, and writes `profile.txt` and `profile.json` (a trace, for Perfetto or chrome://tracing)."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Begin: call `step` after every step.

        Args:
            folder: into which the files are written.
            device: where the model runs.
        """
        self._folder = folder
        self._device = device
        self._written = False
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells people nothing
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        when = schedule(wait=0, warmup=WARM, active=STEPS, repeat=1)
        self._profile: Any = profile(activities=kinds, schedule=when, on_trace_ready=self._write)
        self._profile.start()

    def step(self) -> None:
        """A step is done."""
        if self._profile is not None:
            self._profile.step()

    def close(self) -> None:
        """End, and write what was seen where the run had fewer steps than are looked at."""
        if self._profile is not None:
            self._profile.stop()
        if not self._written:
            log.warning("no profile: it takes more than %d steps in one start", WARM)

    def _write(self, found: Any) -> None:
        """The operations by their own time, and what share of the steps' time each part had on the host."""
        self._profile = None
        rows = found.key_averages()
        if not any(row.key == "forward" for row in rows):
            return
        self._written = True
        whole = sum(row.cpu_time_total for row in rows if row.key.startswith("ProfilerStep"))
        shares = {row.key: 100 * row.cpu_time_total / whole for row in rows if row.key in PARTS}
        shares["other"] = 100 - sum(shares.values())  # passes and checkpoints between epochs
        told = ", ".join(f"{part} {shares[part]:.0f}%" for part in (*PARTS, "other") if part in shares)
        if self._device.type == "cuda":  # which goes on by itself: what counts is that it never waits
            busy = sum(row.self_device_time_total for row in rows if row.device_type.name != "CPU")
            told += f"; the GPU is busy for {100 * busy / whole:.0f}%"
        own = "self_device_time_total" if self._device.type == "cuda" else "self_cpu_time_total"
        table = rows.table(sort_by=own, row_limit=OPERATIONS)
        write_atomic(self._folder / "profile.txt", lambda path: path.write_text(f"{told}\n\n{table}\n"))
        write_atomic(self._folder / "profile.json", lambda path: found.export_chrome_trace(str(path)))
        log.info("where the time of training steps goes: %s; more in %s", told, self._folder / "profile.txt")
