"""A pool that runs each task of an experiment as a Ray task, and transfers the files that the task reads and writes.

The data set, and the files and modules that the experiment names, must be at the same paths on every machine, and the
same version of easycoreset must be installed. Machines may join and leave: another machine repeats a lost one's tasks.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import socket
import stat
import tempfile
import time
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from easycoreset.console import log
from easycoreset.data import enable_cache, make_path_absolute
from easycoreset.errors import RunError, UsageError
from easycoreset.experiment.results import cell_folder, scores_folder
from easycoreset.experiment.tasks import RunSettings, Task, is_finished
from easycoreset.experiment.worker import CELL_RECORD, TaskReport, lock_task, run_task
from easycoreset.file_lists import STEP_MARK, FileList, delete_run
from easycoreset.files import temporary_beside
from easycoreset.run_folders import RUN_RECORD, discard_step

HINT = "pip install easycoreset[ray]"
RETRIES = 3  # times that Ray repeats a task whose process or machine died
CONNECT_TIMEOUT = 15  # seconds
NOT_TRANSFERRED = (".lock", "checkpoint.pt")  # file names
FORWARDED_VARIABLES = ("PYTHONPATH", "HF_HUB_OFFLINE")
KEPT_DAYS = 7  # a machine deletes its files of an experiment that was not used for so long
Files = dict[str, bytes]  # path within a folder -> content


class RayPool:
    """Runs tasks on a Ray cluster, one CPU (or one GPU) each; their files are copied back when they end."""

    def __init__(self, address: str, workers: int | None, settings: RunSettings) -> None:
        """Join the cluster at `address`; if it is empty, a cluster that runs on this machine, or else start one there.

        Raises:
            UsageError: Ray is not installed, or no cluster could be joined.
        """
        self._ray = _join(address)
        self._workers = workers
        self._settings = settings
        self._running: dict[Future[Any], tuple[Task, Any, contextlib.ExitStack]] = {}  # (task, Ray reference, lock)
        self._scores: dict[str, tuple[str, Any]] = {}  # scoring run -> (digest of its files, Ray reference)
        uses_gpus = settings.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= 1
        self._resource = "GPU" if uses_gpus else "CPU"
        resources: dict[str, Any] = {"num_gpus": 1} if uses_gpus else {"num_cpus": 1, "num_gpus": 0}
        self._remote = self._ray.remote(max_retries=RETRIES, **resources)(run_remote_task)
        machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
        log.info("Ray: %d machine%s, %d tasks at once", machines, "s" * (machines > 1), self.size)

    @property
    def size(self) -> int:
        """Number of tasks that run at once: as requested, or as many as the cluster now has CPUs (or GPUs)."""
        return self._workers or max(1, int(self._ray.cluster_resources().get(self._resource, 1)))

    def submit(self, task: Task) -> Future[Any]:
        """Start a task, unless another process of this machine holds it or has done it."""
        out = self._settings.out
        with contextlib.ExitStack() as lock:
            if not lock.enter_context(lock_task(task, out)):
                return _finished_future(TaskReport("busy"))
            if is_finished(task, out):
                return _finished_future(TaskReport("done"))
            try:
                scores_digest, scores = self._send_scores(task)
                settings = dataclasses.replace(self._settings, data=make_path_absolute(task.cell.data))
                scratch_name = _make_scratch_name(out, scores_digest)
                reference = self._remote.remote(task, settings, scores, scratch_name, _installed_version())
            except (self._ray.exceptions.RayError, OSError) as error:
                return _finished_future(TaskReport("failed", f"{type(error).__name__}: {error}".replace("\n", " ")))
            future = reference.future()
            self._running[future] = (task, reference, lock.pop_all())
        return future

    def result(self, future: Future[Any]) -> TaskReport:
        """The report of a finished task; its files are written into the experiment's folder."""
        if future not in self._running:
            return future.result()
        task, _, lock = self._running.pop(future)
        with lock:
            try:
                report, files = future.result()
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                return TaskReport("failed", f"{type(cause).__name__}: {' '.join(str(cause).split())}")
            if files is None:
                return report
            if task.kind == "score":
                self._scores.pop(task.cell.scoring_name, None)  # the new files are sent with the next cell
            elif (record := json.loads(files["cell.json"])) and self._has_other_data(record):
                return TaskReport("failed", f"{task.cell.data} on {record['host']} is not the same data as here")
            folder = _task_folder(task, self._settings.out)
            discard_step(folder, _record_name(task))
            FileList(self._settings.out, RUN_RECORD).add(folder, f"{STEP_MARK}{_record_name(task)}")
            write_files(files, folder)
            return report

    def restart_workers(self) -> None:
        """Do nothing: Ray replaces its workers itself."""

    def close(self) -> None:
        """Disconnect from the cluster and cancel the running tasks."""
        for future in [future for future in self._running if future.done()]:
            self.result(future)
        for _, reference, lock in self._running.values():
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
            lock.close()
        self._ray.shutdown()

    def _has_other_data(self, record: dict[str, Any]) -> bool:
        """Whether a cell was computed on data that differ from the data of the experiment."""
        return self._settings.fingerprint not in ("", record["fingerprint"])

    def _send_scores(self, task: Task) -> tuple[str, Any]:
        """Send the scores that a task needs or resumes from, once per scoring run; returns (digest, reference)."""
        cell = task.cell
        folder = scores_folder(self._settings.out, task.cell)
        if not cell.needs_scores or not folder.exists():
            return "", None
        if cell.scoring_name not in self._scores:
            files = read_files(folder)
            digest = hashlib.sha256(b"".join(files.values())).hexdigest()
            self._scores[cell.scoring_name] = digest, self._ray.put(files)
        return self._scores[cell.scoring_name]


def check_reachable(address: str) -> None:
    """Check that Ray is installed and that something listens at an address, before a folder is written.

    Raises:
        UsageError: Ray is not installed, or nothing listens at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"on: ray needs Ray: {HINT}")
    try:
        _check_address(address)
    except OSError as error:
        raise UsageError(_no_cluster_message(address, error)) from None


def _no_cluster_message(address: str, error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"on: no Ray cluster could be joined at {address or 'this machine'} ({first}); `ray start --head` starts "
        f"one ({HINT})"
    )


def _join(address: str) -> Any:
    """Join a cluster; returns the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(f"on: ray needs Ray: {HINT}") from None
    forwarded = {name: os.environ[name] for name in FORWARDED_VARIABLES if name in os.environ}
    try:
        _check_address(address)
        ray.init(
            address or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {**forwarded, "OMP_NUM_THREADS": "1"}},
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_no_cluster_message(address, error)) from None
    return ray


def _check_address(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


def run_remote_task(
    task: Task, settings: RunSettings, scores: Files | None, scratch_name: str, expected_version: str
) -> tuple[TaskReport, Files | None]:
    """Run a task on a machine of the cluster, in the folder `scratch_name` of its temporary folder.

    Files of an unfinished task stay there, so that the machine can resume from its checkpoint if it gets the task
    again; scores stay for the next cell.

    Returns:
        The report, and the files that the task wrote; None unless the task is done.
    """
    import torch

    torch.set_num_threads(1)
    enable_cache()  # a Ray worker serves only this experiment
    if (installed := _installed_version()) != expected_version:
        return TaskReport(
            "failed", f"easycoreset {installed} on {platform.node()}; {expected_version} where it was started"
        ), None
    out = _user_folder() / scratch_name
    out.mkdir(exist_ok=True)
    os.utime(out)  # it is in use, see `_delete_unused`
    _delete_unused(out.parent)
    folder = scores_folder(out, task.cell)
    if scores is not None and not folder.exists():
        FileList(out, RUN_RECORD).add(folder, f"{STEP_MARK}{RUN_RECORD}")
        write_files(scores, folder)
    report = run_task(task, dataclasses.replace(settings, out=out))
    if report.status != "done":
        return report, None
    result_folder = _task_folder(task, out)
    files = read_files(result_folder)
    delete_run(result_folder, _record_name(task))
    return report, files


def _user_folder() -> Path:
    """The user's folder in the temporary folder of the machine; no other user can write into it.

    Raises:
        RunError: the folder belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"easycoreset-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RunError(f"{folder} is not this user's folder")
    return folder


def _delete_unused(folder: Path) -> None:
    """Delete the folders of experiments that were not used for `KEPT_DAYS`."""
    for experiment_folder in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - experiment_folder.lstat().st_mtime > KEPT_DAYS * 86_400:
                delete_run(experiment_folder, RUN_RECORD)


def read_files(folder: Path) -> Files:
    """The contents of a folder's files, by path relative to it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in NOT_TRANSFERRED)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def write_files(files: Files, folder: Path) -> None:
    """Write a folder atomically, under a temporary name that is renamed; if the folder exists, it is kept."""
    temporary = temporary_beside(folder)
    for name, content in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(content)
    try:
        temporary.rename(folder)
    except OSError:  # another task of this machine was faster
        shutil.rmtree(temporary)  # made above, under a unique name


def _task_folder(task: Task, out: Path) -> Path:
    return scores_folder(out, task.cell) if task.kind == "score" else cell_folder(out, task.cell)


def _record_name(task: Task) -> str:
    return RUN_RECORD if task.kind == "score" else CELL_RECORD


def _make_scratch_name(out: Path, scores_digest: str) -> str:
    """The name of the folder that machines use for an experiment and the scores of its cells."""
    return hashlib.sha256(f"{platform.node()}:{out.resolve()}:{scores_digest}".encode()).hexdigest()[:16]


def _installed_version() -> str:
    try:
        return version("easycoreset")
    except PackageNotFoundError:  # the package is only on the import path
        return "not installed"


def _finished_future(report: TaskReport) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(report)
    return future
