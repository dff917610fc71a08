"""Pools that run steps: this process, worker processes of this machine, or a Ray cluster."""

import multiprocessing
import os
import pickle
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.synchronize import Event
from typing import Any, Protocol, cast

import torch

from easycoreset.console import log, silence
from easycoreset.data import enable_cache
from easycoreset.errors import EasycoresetWarning, RunError, require
from easycoreset.options import Device, RunnerOptions
from easycoreset.python_objects import restore_objects
from easycoreset.training.setup import choose_device
from easycoreset.workflow.forecast import Forecast
from easycoreset.workflow.steps import Step, objects_of
from easycoreset.workflow.worker import Machine, Report, run_step

THREADS_VARIABLE = "OMP_NUM_THREADS"  # environment variable


class Pool(Protocol):
    """The interface of a pool that the runner uses."""

    @property
    def size(self) -> int:
        """Number of steps that run at once."""
        ...

    def submit(self, step: Step) -> Future[Any]:
        """Start a step.

        Raises:
            BrokenProcessPool: a worker died; call `restart_workers` before submitting again.
        """
        ...

    def result(self, future: Future[Any]) -> Report:
        """The report of a step that ended; its results are in the plan's folder.

        Raises:
            BrokenProcessPool: a worker died, and all running steps are lost.
        """
        ...

    def restart_workers(self) -> None:
        """Replace the workers.

        Raises:
            RunError: the workers failed to start for the second time.
        """
        ...

    def close(self) -> None:
        """Stop the workers, even while they work."""
        ...


def check_pool(on: str) -> None:
    """Check that the cluster that `on` names can be reached, before a folder is written.

    Raises:
        UsageError: Ray is not installed, or nothing listens at the address.
    """
    from easycoreset.workflow.cluster import check_reachable

    check_reachable(on.removeprefix("ray").removeprefix(":"))


def open_pool(options: RunnerOptions, default: int, machine: Machine, steps: Sequence[Step]) -> Pool:
    """Open the pool that the options name: on this machine, or on a Ray cluster.

    Args:
        options: where the steps run, and how many at once.
        default: how many on this machine's CPU; 0 to run them in this process.
        machine: the folder and the device.
        steps: the steps that it will run; objects in memory that they name are sent to worker processes.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """
    if options.on is None:
        objects = objects_of(steps)
        size = count_workers(options, default, machine.device)
        if size and (reason := find_unsendable(objects)):
            log.info("the steps run in this process: %s", reason)
            size = 0
        return LocalPool(size, machine, objects) if size else InlinePool(machine)
    from easycoreset.workflow.cluster import RayPool

    return RayPool(options.on.partition(":")[2], options.workers, options.workers_per_gpu or 1, machine)


def check_objects(options: RunnerOptions, steps: Sequence[Step]) -> None:
    """Check that objects in memory which steps name can be sent to the processes that run them.

    Raises:
        UsageError: an object cannot be sent.
    """
    objects = objects_of(steps)
    require(options.on is None or not objects, "on", "left out with objects in memory", ", ".join(objects))
    reason = find_unsendable(objects) if options.workers else ""
    require(not reason, "workers", f"0 (this process) where {reason}", options.workers)


def find_unsendable(objects: Mapping[str, Any]) -> str:
    """Why an object, or this program, cannot be sent to other processes; empty if it can."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is not None and not os.path.exists(main):
        return f"the program is read from {main}, which other processes cannot import"
    for name, value in objects.items():
        try:
            TrialPickler(is_main_importable=main is not None).dump(value)
        except Exception as error:  # pickling calls what users wrote
            return f"{name} cannot be sent to other processes ({' '.join(str(error).split())})"
    return ""


class TrialPickler(pickle.Pickler):
    """Pickles an object into nothing, and refuses what other processes cannot import."""

    def __init__(self, is_main_importable: bool) -> None:
        super().__init__(cast(Any, self))
        self.is_main_importable = is_main_importable

    def write(self, data: bytes) -> int:
        """Forget what is written."""
        return len(data)

    def reducer_override(self, value: Any) -> Any:
        """Refuse the functions and classes of a notebook."""
        is_definition = isinstance(value, type | types.FunctionType)
        if is_definition and not self.is_main_importable and value.__module__ == "__main__":
            raise pickle.PicklingError(f"{value.__qualname__} is defined in a notebook, which they cannot import")
        return NotImplemented


def count_workers(options: RunnerOptions, default: int, device: Device) -> int:
    """The number of steps that run at once on this machine; 0 to run them in this process.

    Raises:
        UsageError: `workers_per_gpu` without a GPU.
    """
    gpus = count_gpus(device)
    shared = options.workers_per_gpu
    require(gpus > 0 or shared is None, "workers_per_gpu", "left out without a GPU", shared)
    if options.workers is not None or not gpus:
        return default if options.workers is None else options.workers
    workers = gpus * (shared or 1)
    return workers if workers > 1 else min(default, 1)


def count_gpus(device: Device) -> int:
    """The number of GPUs that workers on this machine share."""
    return torch.cuda.device_count() if choose_device(device).type == "cuda" else 0


class InlinePool:
    """Runs one step after the other in this process."""

    size = 1

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.forecast = Forecast({})

    def submit(self, step: Step) -> Future[Report]:
        """Run a step."""
        log.info("step: %s%s", step.title, self.forecast.describe(step))
        start = time.monotonic()
        report = run_step(step, self._machine)
        self.forecast.end(step, time.monotonic() - start if report.status == "done" else None)
        return finished_future(report)

    def result(self, future: Future[Any]) -> Report:
        """The report of a step."""
        return future.result()

    def restart_workers(self) -> None:
        """Do nothing: there are no workers."""

    def close(self) -> None:
        """Do nothing: there are no workers."""


class LocalPool:
    """Persistent worker processes of this machine, one thread (or one GPU) each."""

    def __init__(self, workers: int, machine: Machine, objects: Mapping[str, Any] | None = None) -> None:
        self.size = workers
        self._objects = dict(objects or {})
        self._machine = replace(machine, device=choose_device(machine.device).type)  # also in a worker after a lost GPU
        self._failed_starts = 0
        self._other_child_pids = {child.pid for child in multiprocessing.active_children()}
        self._threads_before = os.environ.get(THREADS_VARIABLE)
        self._pool = self._open()

    def submit(self, step: Step) -> Future[Report]:
        """Start a step."""
        return self._pool.submit(run_step_or_exit, step, self._machine)

    def result(self, future: Future[Any]) -> Report:
        """The report of a step."""
        return future.result()

    def restart_workers(self) -> None:
        """Replace the workers."""
        self._pool.shutdown(wait=False)
        self._failed_starts += not self._started.is_set()
        if self._failed_starts > 1:
            raise RunError(
                "no worker process could start; the error is above. A script must call this under "
                '`if __name__ == "__main__":`'
            )
        self._pool = self._open()

    def close(self) -> None:
        """Stop the workers, even while they work: the next start resumes from their checkpoints."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.pid not in self._other_child_pids:
                process.terminate()
        if self._threads_before is None:
            os.environ.pop(THREADS_VARIABLE, None)

    def _open(self) -> ProcessPoolExecutor:
        os.environ.setdefault(THREADS_VARIABLE, "1")  # for NumPy in the workers; this process has loaded NumPy already
        context = multiprocessing.get_context("spawn")
        worker_ids = context.Queue()
        self._started = context.Event()
        for worker_id in range(self.size):
            worker_ids.put(worker_id)
        return ProcessPoolExecutor(
            self.size,
            context,
            initializer=_start_worker,
            initargs=(os.getpid(), worker_ids, self._started, self._objects),
        )


def run_step_or_exit(step: Step, machine: Machine) -> Report:
    """Run a step in a worker; the process ends if its GPU failed, because only another one can use a GPU again."""
    report = run_step(step, machine)
    if report.lost_device:
        print(f"worker: {report.reason}", file=sys.stderr, flush=True)
        os._exit(1)
    return report


def be_quiet() -> None:
    """Show nothing: the records of the steps keep what matters."""
    silence()
    warnings.simplefilter("ignore", EasycoresetWarning)


def finished_future(report: Report) -> Future[Any]:
    """A future whose result is there already."""
    future: Future[Any] = Future()
    future.set_result(report)
    return future


def _start_worker(
    parent_pid: int, worker_ids: "multiprocessing.Queue[int]", started: Event, objects: Mapping[str, Any]
) -> None:
    """Set up a worker: one thread, a separate GPU if there are several, and exit when the parent process is gone."""
    started.set()
    restore_objects(objects)
    be_quiet()
    torch.set_num_threads(1)
    enable_cache()
    worker_id = worker_ids.get(timeout=10)
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(worker_id % torch.cuda.device_count())

    def exit_after_parent() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()
