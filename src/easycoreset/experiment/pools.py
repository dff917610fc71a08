"""Who does the work of an experiment: worker processes of this machine, or a Ray cluster."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any, Protocol

from easycoreset.data import enable_cache
from easycoreset.errors import RunError
from easycoreset.experiment.tasks import Setting, Task
from easycoreset.experiment.work import Report, work_on

THREADS = "OMP_NUM_THREADS"


class Pool(Protocol):
    """What `run_experiment` needs of those who do the work."""

    @property
    def size(self) -> int:
        """Pieces of work at once."""
        ...

    def submit(self, task: Task) -> Future[Any]:
        """Begin a piece of work.

        Raises:
            BrokenProcessPool: a worker died: `begin_anew` before more is begun.
        """
        ...

    def result(self, future: Future[Any]) -> Report:
        """How it ended; what it made is in the experiment's folder.

        Raises:
            BrokenProcessPool: a worker died, and all that ran is lost.
        """
        ...

    def begin_anew(self) -> None:
        """Replace the workers.

        Raises:
            RunError: for the second time none of them had come up.
        """
        ...

    def close(self) -> None:
        """End the workers, also amid their work."""
        ...


def check_pool(on: str | None) -> None:
    """Find out before a folder is begun that a cluster is not there.

    Raises:
        UsageError: Ray is missing, or nobody listens at the address.
    """
    if on is not None:
        from easycoreset.experiment.cluster import refuse_unreachable

        refuse_unreachable(on.removeprefix("ray").removeprefix(":"))


def open_pool(on: str | None, workers: int | None, setting: Setting) -> Pool:
    """Those who do the work: of this machine, or for `ray[:ADDRESS]` of a cluster.

    Raises:
        UsageError: no Ray, or none that answers.
    """
    if on is None:
        return LocalPool(workers or 2, setting)
    from easycoreset.experiment.cluster import RayPool

    return RayPool(on.partition(":")[2], workers, setting)


class LocalPool:
    """Persistent worker processes of this machine, one thread (or one GPU) each."""

    def __init__(self, workers: int, setting: Setting) -> None:
        self.size = workers
        self._setting = setting
        self._stillborn = 0
        self._theirs = {child.pid for child in multiprocessing.active_children()}
        self._threads = os.environ.get(THREADS)
        self._pool = self._open()

    def submit(self, task: Task) -> Future[Report]:
        """Begin a piece of work."""
        return self._pool.submit(work_on, task, self._setting)

    def result(self, future: Future[Any]) -> Report:
        """How it ended."""
        return future.result()

    def begin_anew(self) -> None:
        """Replace the workers."""
        self._pool.shutdown(wait=False)
        self._stillborn += not self._begun.is_set()
        if self._stillborn > 1:
            raise RunError(
                "no worker process came up; what it said is above. A script that compares must do so under "
                '`if __name__ == "__main__":`'
            )
        self._pool = self._open()

    def close(self) -> None:
        """End the workers, also amid their work: it goes on from their checkpoints at the next start."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.pid not in self._theirs:
                process.terminate()
        if self._threads is None:
            os.environ.pop(THREADS, None)

    def _open(self) -> ProcessPoolExecutor:
        os.environ.setdefault(THREADS, "1")  # for the workers' NumPy; our own is running already
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        self._begun = context.Event()
        for place in range(self.size):
            places.put(place)
        return ProcessPoolExecutor(
            self.size, context, initializer=_begin_worker, initargs=(os.getpid(), places, self._begun)
        )


def _begin_worker(parent: int, places: "multiprocessing.Queue[int]", begun: Event) -> None:
    """One thread, a GPU of its own where there are several, and an end when the parent is gone, also when killed."""
    import torch

    begun.set()
    torch.set_num_threads(1)
    enable_cache()
    place = places.get(timeout=10)
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(place % torch.cuda.device_count())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
