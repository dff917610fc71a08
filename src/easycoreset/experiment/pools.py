"""Pools that run the tasks of an experiment: worker processes of this machine, or a Ray cluster."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any, Protocol

from easycoreset.data import enable_cache
from easycoreset.errors import RunError
from easycoreset.experiment.tasks import RunSettings, Task
from easycoreset.experiment.worker import TaskReport, run_task

THREADS_VARIABLE = "OMP_NUM_THREADS"  # environment variable


class Pool(Protocol):
    """The interface of a pool that `run_experiment` uses."""

    @property
    def size(self) -> int:
        """Number of tasks that run at once."""
        ...

    def submit(self, task: Task) -> Future[Any]:
        """Start a task.

        Raises:
            BrokenProcessPool: a worker died; call `restart_workers` before submitting again.
        """
        ...

    def result(self, future: Future[Any]) -> TaskReport:
        """The report of a finished task; its results are in the experiment's folder.

        Raises:
            BrokenProcessPool: a worker died, and all running tasks are lost.
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


def check_pool(on: str | None) -> None:
    """Check that the cluster that `on` names can be reached, before a folder is written.

    Raises:
        UsageError: Ray is not installed, or nothing listens at the address.
    """
    if on is not None:
        from easycoreset.experiment.cluster import check_reachable

        check_reachable(on.removeprefix("ray").removeprefix(":"))


def open_pool(on: str | None, workers: int | None, settings: RunSettings) -> Pool:
    """Open a pool: on this machine if `on` is None, on a Ray cluster if it is `ray` or `ray:ADDRESS`.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """
    if on is None:
        return LocalPool(workers or 2, settings)
    from easycoreset.experiment.cluster import RayPool

    return RayPool(on.partition(":")[2], workers, settings)


class LocalPool:
    """Persistent worker processes of this machine, one thread (or one GPU) each."""

    def __init__(self, workers: int, settings: RunSettings) -> None:
        self.size = workers
        self._settings = settings
        self._failed_starts = 0
        self._other_child_pids = {child.pid for child in multiprocessing.active_children()}
        self._threads_before = os.environ.get(THREADS_VARIABLE)
        self._pool = self._open()

    def submit(self, task: Task) -> Future[TaskReport]:
        """Start a task."""
        return self._pool.submit(run_task, task, self._settings)

    def result(self, future: Future[Any]) -> TaskReport:
        """The report of a finished task."""
        return future.result()

    def restart_workers(self) -> None:
        """Replace the workers."""
        self._pool.shutdown(wait=False)
        self._failed_starts += not self._started.is_set()
        if self._failed_starts > 1:
            raise RunError(
                "no worker process could start; the error is above. A script must call compare under "
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
            self.size, context, initializer=_start_worker, initargs=(os.getpid(), worker_ids, self._started)
        )


def _start_worker(parent_pid: int, worker_ids: "multiprocessing.Queue[int]", started: Event) -> None:
    """Set up a worker: one thread, a separate GPU if there are several, and exit when the parent process is gone."""
    import torch

    started.set()
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
