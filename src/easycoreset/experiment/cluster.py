"""The work of an experiment on a Ray cluster: a task a piece, whose files travel; nothing needs to be shared but data.

The data set lies at the same path on every machine, and the same easycoreset is installed there. Machines may come and
go: what a lost one did is done again by another.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import platform
import shutil
import socket
import tempfile
import uuid
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.experiment.results import cell_folder, is_done, scores_folder
from easycoreset.experiment.tasks import Setting, Task
from easycoreset.experiment.work import Report, locked, work_on

HINT = "pip install easycoreset[ray]"
RETRIES = 3  # of a piece of work whose process or machine died
SECONDS = 15  # in which a cluster must answer
STAYING = (".lock", "checkpoint.pt")  # files that do not travel
Files = dict[str, bytes]


class RayPool:
    """Tasks on a Ray cluster, one CPU (or one GPU) each; what they make comes home when they end."""

    def __init__(self, address: str, workers: int | None, setting: Setting) -> None:
        """Join the cluster at `address`; where none is named one that runs here, or else a new one of this machine.

        Raises:
            UsageError: Ray is not installed, or no cluster answers.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import ray
        except ImportError:
            raise UsageError(f"on: ray needs Ray: {HINT}") from None
        self._ray, self._asked, self._setting = ray, workers, setting
        self._running: dict[Future[Any], tuple[Task, Any, contextlib.ExitStack]] = {}
        self._scores: dict[str, tuple[str, Any]] = {}
        travelling = {name: os.environ[name] for name in ("PYTHONPATH", "HF_HUB_OFFLINE") if name in os.environ}
        try:
            _knock(address)
            ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR,
                     runtime_env={"env_vars": {**travelling, "OMP_NUM_THREADS": "1"}})  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"on: no Ray cluster answers at {address or 'this machine'} ({first}); `ray start --head` "
                             f"begins one ({HINT})") from None  # fmt: skip
        gpus = setting.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        self._resource = "GPU" if gpus else "CPU"
        amount: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1, "num_gpus": 0}
        self._remote = ray.remote(max_retries=RETRIES, **amount)(work_away)
        log.info("Ray: %d machines, %d tasks at once", len(_alive(ray)), self.size)

    @property
    def size(self) -> int:
        """Pieces of work at once: as asked for, or as many as the cluster now has CPUs (or GPUs)."""
        return self._asked or max(1, int(self._ray.cluster_resources().get(self._resource, 1)))

    def submit(self, task: Task) -> Future[Any]:
        """Begin a piece of work, unless another process of this machine has it."""
        with contextlib.ExitStack() as held:
            if not held.enter_context(locked(task, self._setting.out)):
                return _ended(Report("busy"))
            if task.kind == "cell" and is_done(self._setting.out, task.cell):
                return _ended(Report("done"))
            away = dataclasses.replace(task, cell=dataclasses.replace(task.cell, data=_absolute(task.cell.data)))
            mark, scores = self._send_scores(task)
            scratch = hashlib.sha256(f"{platform.node()}:{self._setting.out.resolve()}:{mark}".encode()).hexdigest()[
                :16
            ]
            reference = self._remote.remote(away, self._setting, scores, scratch, _own_version())
            future = reference.future()
            self._running[future] = (task, reference, held.pop_all())
        return future

    def result(self, future: Future[Any]) -> Report:
        """How a piece of work ended; what it made is put in its place."""
        task, _, held = self._running.pop(future, (None, None, contextlib.ExitStack()))
        with held:
            try:
                report, files = future.result() if task is not None else (future.result(), None)
            except self._ray.exceptions.RayError as error:
                lines = str(error).splitlines() or [""]
                return Report("failed", f"{type(error).__name__}: {lines[0]}")
            if task is not None and files is not None:
                put(files, _place(task, self._setting.out), replace=True)
                self._scores.pop(task.cell.scoring_name, None)
            return report

    def begin_anew(self) -> None:
        """Nothing: Ray replaces its workers itself."""

    def close(self) -> None:
        """Part from the cluster; what is running there ends."""
        for _, reference, held in self._running.values():
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
            held.close()
        self._ray.shutdown()

    def _send_scores(self, task: Task) -> tuple[str, Any]:
        """The scores that a cell needs, sent to the cluster once, and what tells them from others."""
        cell, folder = task.cell, scores_folder(self._setting.out, task.cell)
        if task.kind == "score" or not cell.needs_scores or not folder.exists():
            return "", None
        if cell.scoring_name not in self._scores:
            files = gather(folder)
            mark = hashlib.sha256(b"".join(files.values())).hexdigest()
            self._scores[cell.scoring_name] = mark, self._ray.put(files)
        return self._scores[cell.scoring_name]


def work_away(task: Task, setting: Setting, scores: Files | None, scratch: str,
              wanted: str) -> tuple[Report, Files | None]:  # fmt: skip
    """Do a piece of work on another machine, in its temporary folder; returns also the files that it made.

    The folder stays where the work did not end, so that the machine goes on from its checkpoint if it gets it again.
    """
    import torch

    torch.set_num_threads(1)
    if _own_version() != wanted:
        return Report("failed", f"easycoreset {_own_version()} on {platform.node()}; {wanted} at the head"), None
    out = Path(tempfile.gettempdir()) / f"easycoreset-{os.getuid()}" / scratch
    if scores is not None and not scores_folder(out, task.cell).exists():
        put(scores, scores_folder(out, task.cell))
    report = work_on(task, dataclasses.replace(setting, out=out))
    if report.status != "done":
        return report, None
    place = _place(task, out)
    files = gather(place)
    shutil.rmtree(place)
    return report, files


def gather(folder: Path) -> Files:
    """The contents of a folder's files, by their paths in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in STAYING)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def put(files: Files, folder: Path, replace: bool = False) -> None:
    """Fill a folder, at once: it is written beside its place and renamed; whoever comes second gives way."""
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    for name, content in files.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).write_bytes(content)
    if replace:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        beside.rename(folder)
    except OSError:  # another task of this machine was faster
        shutil.rmtree(beside)


def _place(task: Task, out: Path) -> Path:
    return scores_folder(out, task.cell) if task.kind == "score" else cell_folder(out, task.cell)


def _absolute(data: str) -> str:
    """A data set's spelling that means the same from any folder."""
    name, colon, place = data.partition(":")
    if Path(data).exists():
        return str(Path(data).resolve())
    return f"{name}:{Path(place).resolve()}" if colon and Path(place).exists() else data


def _own_version() -> str:
    return version("easycoreset")


def _ended(report: Report) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(report)
    return future


def _alive(ray: Any) -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
