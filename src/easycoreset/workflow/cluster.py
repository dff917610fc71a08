"""A pool that runs each step as a Ray task, and transfers the files that the step reads and writes.

The data set, and the files and modules that the plan names, must be at the same paths on every machine, and the
same version of easycoreset must be installed. Machines may join and leave: another machine repeats a lost one's steps.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
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
from easycoreset.data import enable_cache
from easycoreset.errors import RunError, UsageError
from easycoreset.file_lists import STEP_MARK, FileList, delete_run
from easycoreset.files import temporary_beside
from easycoreset.run_folders import PLAN_RECORD, discard_step
from easycoreset.workflow.inputs import describe_other_data
from easycoreset.workflow.pools import be_quiet, finished_future
from easycoreset.workflow.steps import KINDS, Step, is_done
from easycoreset.workflow.worker import Machine, Report, is_complete, lock_step, run_step

HINT = "pip install easycoreset[ray]"
RETRIES = 3  # times that Ray repeats a step whose process or machine died
CONNECT_TIMEOUT = 15  # seconds
NOT_TRANSFERRED = (".lock", "checkpoint.pt")  # file names
ALL_FILES_FOR = ("measure", "audit")  # kinds that read the weights of scored epochs
EPOCH_FOLDERS = ("checkpoints", "trajectory")
FORWARDED_VARIABLES = ("PYTHONPATH", "HF_HUB_OFFLINE")
KEPT_DAYS = 7  # a machine deletes its files of a plan that was not used for so long
Files = dict[str, bytes]  # path within a folder -> content


class RayPool:
    """Runs steps on a Ray cluster, each on a CPU or a share of a GPU; their files are copied back when they end."""

    def __init__(self, address: str, workers: int | None, workers_per_gpu: int, machine: Machine) -> None:
        """Join the cluster at `address`; if it is empty, a cluster that runs on this machine, or else start one there.

        Raises:
            UsageError: Ray is not installed, or no cluster could be joined.
        """
        self._ray = _join(address)
        self._workers = workers
        self._machine = machine
        self._running: dict[Future[Any], tuple[Step, Any, contextlib.ExitStack]] = {}  # (step, Ray reference, lock)
        self._sent: dict[tuple[str, bool], Any] = {}  # (step, whether with its epochs) -> Ray reference of its files
        uses_gpus = machine.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= 1
        if workers_per_gpu > 1 and not uses_gpus:
            raise UsageError("workers_per_gpu must be left out where the cluster has no GPU, or device is cpu")
        self._resource, self._per_unit = ("GPU", workers_per_gpu) if uses_gpus else ("CPU", 1)
        of_gpu: dict[str, Any] = {"num_gpus": 1 / workers_per_gpu}
        resources = of_gpu if uses_gpus else {"num_cpus": 1, "num_gpus": 0}
        self._remote = self._ray.remote(max_retries=RETRIES, **resources)(run_remote_step)
        machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
        log.info("Ray: %d machine%s, %d steps at once", machines, "s" * (machines > 1), self.size)

    @property
    def size(self) -> int:
        """Number of steps that run at once: as requested, or as many as the cluster now has CPUs (or GPUs)."""
        return self._workers or max(1, int(self._per_unit * self._ray.cluster_resources().get(self._resource, 1)))

    def submit(self, step: Step) -> Future[Any]:
        """Start a step, unless another process of this machine holds it or has done it."""
        out = self._machine.out
        with contextlib.ExitStack() as lock:
            if not lock.enter_context(lock_step(step, out)):
                return finished_future(Report("busy"))
            if is_complete(step, out):
                return finished_future(Report("done"))
            try:
                inputs = {other.name: self._send(other, step.kind in ALL_FILES_FOR) for other in step.steps.values()}
                references = list(inputs.values())
                scratch_name = _make_scratch_name(out, step.kind)
                reference = self._remote.remote(
                    step, self._machine, list(inputs), scratch_name, _installed_version(), *references
                )
            except (self._ray.exceptions.RayError, OSError) as error:
                return finished_future(Report("failed", f"{type(error).__name__}: {error}".replace("\n", " ")))
            future = reference.future()
            self._running[future] = (step, reference, lock.pop_all())
        return future

    def result(self, future: Future[Any]) -> Report:
        """The report of a finished step; its files are written into the plan's folder."""
        if future not in self._running:
            return future.result()
        step, _, lock = self._running.pop(future)
        with lock:
            try:
                report, files = future.result()
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                return Report("failed", f"{type(cause).__name__}: {' '.join(str(cause).split())}")
            if files is not None:
                _replace_files(step, files, self._machine.out)
            return report

    def restart_workers(self) -> None:
        """Do nothing: Ray replaces its workers itself."""

    def close(self) -> None:
        """Disconnect from the cluster and cancel the running steps."""
        for future in [future for future in self._running if future.done()]:
            self.result(future)
        for _, reference, lock in self._running.values():
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
            lock.close()
        self._ray.shutdown()

    def _send(self, step: Step, with_epochs: bool) -> Any:
        """Send the files of a finished step, once; returns their Ray reference."""
        if (step.key, with_epochs) not in self._sent:
            files = read_files(step.folder(self._machine.out), () if with_epochs else EPOCH_FOLDERS)
            self._sent[step.key, with_epochs] = self._ray.put(files)
        return self._sent[step.key, with_epochs]


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


def run_remote_step(
    step: Step, machine: Machine, input_names: list[str], scratch_name: str, expected_version: str, *inputs: Files
) -> tuple[Report, Files | None]:
    """Run a step on a machine of the cluster, in the folder `scratch_name` of its temporary folder.

    Files of an unfinished step stay there, so that the machine can resume from its checkpoint if it gets the step
    again; inputs stay for the next step.

    Returns:
        The report, and the files that the step wrote; None unless it is done.
    """
    import torch

    be_quiet()
    torch.set_num_threads(1)
    enable_cache()  # a Ray worker serves only this plan
    if (installed := _installed_version()) != expected_version:
        return Report(
            "failed", f"easycoreset {installed} on {platform.node()}; {expected_version} where it was started"
        ), None
    out = _user_folder() / scratch_name
    out.mkdir(exist_ok=True)
    os.utime(out)  # it is in use, see `_delete_unused`
    _delete_unused(out.parent)
    for other, files in zip(step.steps.values(), inputs, strict=True):
        _receive(other, files, out)
    if problem := describe_other_data(step):
        return Report("failed", f"{platform.node()}: {problem}"), None
    report = run_step(step, dataclasses.replace(machine, out=out))
    if report.status != "done":
        return report, None
    files = read_files(step.folder(out))
    delete_run(step.folder(out), KINDS[step.kind].record)
    return report, files


def _receive(step: Step, files: Files, out: Path) -> None:
    """Write the files of an input, unless another step of this machine has done so."""
    while True:
        with lock_step(step, out) as acquired:
            if acquired:
                if not is_done(step, out):
                    _replace_files(step, files, out)
                return
        time.sleep(0.1)


def _replace_files(step: Step, files: Files, out: Path) -> None:
    """Write the files of a step in place of what an unfinished start left."""
    folder = step.folder(out)
    record = KINDS[step.kind].record
    with FileList(out, PLAN_RECORD).active() as file_list:
        discard_step(folder, record)
        file_list.add(folder, f"{STEP_MARK}{record}")
    write_files(files, folder)


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
    """Delete the folders of plans that were not used for `KEPT_DAYS`."""
    for plan_folder in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - plan_folder.lstat().st_mtime > KEPT_DAYS * 86_400:
                delete_run(plan_folder, PLAN_RECORD)


def read_files(folder: Path, left_out: tuple[str, ...] = ()) -> Files:
    """The contents of a folder's files, by path relative to it, without the subfolders that are left out."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in NOT_TRANSFERRED)
    relative = {file.relative_to(folder): file for file in files}
    return {path.as_posix(): file.read_bytes() for path, file in relative.items() if path.parts[0] not in left_out}


def write_files(files: Files, folder: Path) -> None:
    """Write a folder atomically, under a temporary name that is renamed; if the folder exists, it is kept."""
    temporary = temporary_beside(folder)
    for name, content in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_bytes(content)
    try:
        temporary.rename(folder)
    except OSError:  # another step of this machine was faster
        shutil.rmtree(temporary)  # made above, under a unique name


def _make_scratch_name(out: Path, kind: str) -> str:
    """The name of the folder that machines use for the steps of a plan; some kinds need more files of their inputs."""
    text = f"{platform.node()}:{out.resolve()}:{kind in ALL_FILES_FOR}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _installed_version() -> str:
    try:
        return version("easycoreset")
    except PackageNotFoundError:  # the package is only on the import path
        return "not installed"
