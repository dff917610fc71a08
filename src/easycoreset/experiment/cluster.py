"""The work of an experiment on a Ray cluster: a task a piece, whose files travel.

The data set lies at the same path on every machine, and so do files and modules that the experiment names; the same
easycoreset is installed there. Machines may come and go: what a lost one did is done again by another.
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
from easycoreset.experiment.tasks import Setting, Task, is_finished
from easycoreset.experiment.work import CELL, Report, locked, work_on
from easycoreset.files import temporary_beside
from easycoreset.folders import OWN, discard_step
from easycoreset.ledgers import STEP, Ledger, delete_run

HINT = "pip install easycoreset[ray]"
RETRIES = 3  # of a piece of work whose process or machine died
PATIENCE = 15  # seconds in which a cluster must answer
STAYING = (".lock", "checkpoint.pt")  # files that do not travel
TRAVELLING = ("PYTHONPATH", "HF_HUB_OFFLINE")  # variables that do
KEPT_DAYS = 7  # of what a machine holds of an experiment that is not worked on any more
Files = dict[str, bytes]


class RayPool:
    """Tasks on a Ray cluster, one CPU (or one GPU) each; what they make comes home when they end."""

    def __init__(self, address: str, workers: int | None, setting: Setting) -> None:
        """Join the cluster at `address`; where none is named one that runs here, or else a new one of this machine.

        Raises:
            UsageError: Ray is not installed, or no cluster could be joined.
        """
        self._ray = _join(address)
        self._asked = workers
        self._setting = setting
        self._running: dict[Future[Any], tuple[Task, Any, contextlib.ExitStack]] = {}
        self._scores: dict[str, tuple[str, Any]] = {}
        gpus = setting.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= 1
        self._resource = "GPU" if gpus else "CPU"
        amount: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1, "num_gpus": 0}
        self._remote = self._ray.remote(max_retries=RETRIES, **amount)(work_away)
        machines = sum(bool(node["Alive"]) for node in self._ray.nodes())
        log.info("Ray: %d machine%s, %d tasks at once", machines, "s" * (machines > 1), self.size)

    @property
    def size(self) -> int:
        """Pieces of work at once: as asked for, or as many as the cluster now has CPUs (or GPUs)."""
        return self._asked or max(1, int(self._ray.cluster_resources().get(self._resource, 1)))

    def submit(self, task: Task) -> Future[Any]:
        """Begin a piece of work, unless another process of this machine has it or has done it."""
        out = self._setting.out
        with contextlib.ExitStack() as held:
            if not held.enter_context(locked(task, out)):
                return _ended(Report("busy"))
            if is_finished(task, out):
                return _ended(Report("done"))
            try:
                mark, scores = self._send_scores(task)
                setting = dataclasses.replace(self._setting, data=make_path_absolute(task.cell.data))
                reference = self._remote.remote(task, setting, scores, _scratch(out, mark), _own_version())
            except (self._ray.exceptions.RayError, OSError) as error:
                return _ended(Report("failed", f"{type(error).__name__}: {error}".replace("\n", " ")))
            future = reference.future()
            self._running[future] = (task, reference, held.pop_all())
        return future

    def result(self, future: Future[Any]) -> Report:
        """How a piece of work ended; what it made is put in its place."""
        if future not in self._running:
            return future.result()
        task, _, held = self._running.pop(future)
        with held:
            try:
                report, files = future.result()
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                return Report("failed", f"{type(cause).__name__}: {' '.join(str(cause).split())}")
            if files is None:
                return report
            if task.kind == "score":
                self._scores.pop(task.cell.scoring_name, None)
            elif (found := json.loads(files["cell.json"])) and self._is_other(found):
                return Report("failed", f"{task.cell.data} is other data on {found['host']} than here")
            place = _place(task, self._setting.out)
            discard_step(place, _record(task))
            Ledger(self._setting.out, OWN).note(place, f"{STEP}{_record(task)}")
            put(files, place)
            return report

    def begin_anew(self) -> None:
        """Nothing: Ray replaces its workers itself."""

    def close(self) -> None:
        """Part from the cluster; what is running there ends."""
        for future in [future for future in self._running if future.done()]:
            self.result(future)
        for _, reference, held in self._running.values():
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
            held.close()
        self._ray.shutdown()

    def _is_other(self, record: dict[str, Any]) -> bool:
        """Whether a cell was computed from other data than the experiment's."""
        return self._setting.fingerprint not in ("", record["fingerprint"])

    def _send_scores(self, task: Task) -> tuple[str, Any]:
        """The scores that a cell needs, or that a scoring run goes on from, sent once; and what tells them apart."""
        cell = task.cell
        folder = scores_folder(self._setting.out, task.cell)
        if not cell.needs_scores or not folder.exists():
            return "", None
        if cell.scoring_name not in self._scores:
            files = gather(folder)
            mark = hashlib.sha256(b"".join(files.values())).hexdigest()
            self._scores[cell.scoring_name] = mark, self._ray.put(files)
        return self._scores[cell.scoring_name]


def refuse_unreachable(address: str) -> None:
    """Find out before a folder is begun that Ray is missing or that nobody listens at an address.

    Raises:
        UsageError: either.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"on: ray needs Ray: {HINT}")
    try:
        _knock(address)
    except OSError as error:
        raise UsageError(_say_alone(address, error)) from None


def _say_alone(address: str, error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"on: no Ray cluster could be joined at {address or 'this machine'} ({first}); `ray start --head` begins "
        f"one ({HINT})"
    )


def _join(address: str) -> Any:
    """Join a cluster; returns the module `ray`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(f"on: ray needs Ray: {HINT}") from None
    travelling = {name: os.environ[name] for name in TRAVELLING if name in os.environ}
    try:
        _knock(address)
        ray.init(
            address or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {**travelling, "OMP_NUM_THREADS": "1"}},
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(_say_alone(address, error)) from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def work_away(
    task: Task, setting: Setting, scores: Files | None, scratch: str, wanted: str
) -> tuple[Report, Files | None]:
    """Do a piece of work on another machine, in its temporary folder; returns also the files that it made.

    What did not end stays there, so that the machine goes on from its checkpoint if it gets it again, and so do scores,
    for the next cell.
    """
    import torch

    torch.set_num_threads(1)
    enable_cache()  # a worker of Ray is this experiment's alone
    if _own_version() != wanted:
        return Report("failed", f"easycoreset {_own_version()} on {platform.node()}; {wanted} at the head"), None
    out = _own_folder() / scratch
    out.mkdir(exist_ok=True)
    os.utime(out)
    _tidy(out.parent)
    folder = scores_folder(out, task.cell)
    if scores is not None and not folder.exists():
        Ledger(out, OWN).note(folder, f"{STEP}{OWN}")
        put(scores, folder)
    report = work_on(task, dataclasses.replace(setting, out=out))
    if report.status != "done":
        return report, None
    place = _place(task, out)
    files = gather(place)
    delete_run(place, _record(task))
    return report, files


def _own_folder() -> Path:
    """The folder in this machine's temporary one that no other user can have made or can write into.

    Raises:
        RunError: somebody else has it.
    """
    folder = Path(tempfile.gettempdir()) / f"easycoreset-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunError(f"{folder} is not this user's folder")
    return folder


def _tidy(folder: Path) -> None:
    """Delete what is left of experiments that are not worked on any more."""
    for place in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - place.lstat().st_mtime > KEPT_DAYS * 86_400:
                delete_run(place, OWN)


def gather(folder: Path) -> Files:
    """The contents of a folder's files, by their paths in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in STAYING)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def put(files: Files, folder: Path) -> None:
    """Fill a folder, at once: it is written beside its place and renamed; whoever comes second gives way."""
    beside = temporary_beside(folder)
    for name, content in files.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).write_bytes(content)
    try:
        beside.rename(folder)
    except OSError:  # another task of this machine was faster
        shutil.rmtree(beside)  # which was made above, under a name of its own


def _place(task: Task, out: Path) -> Path:
    return scores_folder(out, task.cell) if task.kind == "score" else cell_folder(out, task.cell)


def _record(task: Task) -> str:
    return OWN if task.kind == "score" else CELL


def _scratch(out: Path, mark: str) -> str:
    """The name of a machine's folder for an experiment and the scores that its cells are chosen by."""
    return hashlib.sha256(f"{platform.node()}:{out.resolve()}:{mark}".encode()).hexdigest()[:16]


def _own_version() -> str:
    try:
        return version("easycoreset")
    except PackageNotFoundError:  # it is only on the path
        return "not installed"


def _ended(report: Report) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(report)
    return future
