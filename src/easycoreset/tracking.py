"""Experiment tracking with MLflow, Weights & Biases or TensorBoard; by default offline, in the folder of the run."""

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from easycoreset.console import log
from easycoreset.errors import UsageError
from easycoreset.files import write_json
from easycoreset.options import RecipeOptions, options_json
from easycoreset.process_group import is_main_process
from easycoreset.records import read_record

Metrics = dict[str, float]
LogMetrics = Callable[[int, Metrics], object]  # (epoch, metrics)
PROJECT = "easycoreset"


class TrackedEpoch(Protocol):
    """An epoch with a number and metrics; a metric without a value is None."""

    @property
    def number(self) -> int: ...

    @property
    def metrics(self) -> dict[str, float | None]: ...


E = TypeVar("E", bound=TrackedEpoch)


def check_tracker(kind: str | None) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UsageError: the extra is missing.
    """
    if kind is not None and importlib.util.find_spec(kind) is None:
        raise UsageError(f"track {kind} needs {kind}: pip install easycoreset[track]")


def track_epochs(epochs: Iterable[E], options: RecipeOptions, folder: Path) -> Iterator[E]:
    """Yield the epochs; log the metrics of each after the caller has used it, in the main process only.

    A tracker that fails during training causes a warning and does not stop the training.
    """
    if options.track is None or not is_main_process():
        yield from epochs
        return
    for name in TRACKERS:
        if (folder / name).is_symlink():
            raise UsageError(f"track: {folder / name} is a symbolic link; trackers do not write through links")
    with TRACKERS[options.track](folder, options_json(options)) as log_metrics:
        for epoch in epochs:
            yield epoch
            metrics = {name: value for name, value in epoch.metrics.items() if value is not None and name != "epoch"}
            try:
                log_metrics(epoch.number, metrics)
            except Exception as error:  # a server may be unreachable
                log.warning("warning: track %s: epoch %d is not logged: %s", options.track, epoch.number, error)


@contextlib.contextmanager
def track_tensorboard(folder: Path, parameters: dict[str, Any]) -> Iterator[LogMetrics]:
    """Write event files to `tensorboard/`; the tab Text shows the options as a table."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        rows = "".join(f"| {name} | {value} |\n" for name, value in parameters.items())
        writer.add_text("options", f"| option | value |\n|---|---|\n{rows}")

        def log_metrics(epoch: int, metrics: Metrics) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

        yield log_metrics


@contextlib.contextmanager
def track_mlflow(folder: Path, parameters: dict[str, Any]) -> Iterator[LogMetrics]:
    """Log to the server at MLFLOW_TRACKING_URI, else to `mlflow/`: SQLite, or files for mlflow-skinny."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    directory = folder.resolve() / "mlflow"
    artifacts = None if uri else (directory / "artifacts").as_uri()
    if not uri:
        directory.mkdir(exist_ok=True)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        has_sql = all(importlib.util.find_spec(name) is not None for name in ("sqlalchemy", "alembic"))
        if not has_sql:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = f"sqlite:///{directory}/mlflow.db" if has_sql else directory.as_uri()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=uri)
    run_id = _read_run_id(folder, "mlflow")
    if run_id is None:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(name)
        experiment_id = (
            client.create_experiment(name, artifact_location=artifacts) if known is None else known.experiment_id
        )
        run_id = client.create_run(experiment_id, run_name=folder.resolve().name).info.run_id
        client.log_batch(run_id, params=[Param(name, str(value)[:500]) for name, value in parameters.items()])
        _write_run_id(folder, "mlflow", run_id)
    else:
        client.update_run(run_id, "RUNNING")
    status = "FAILED"

    def log_metrics(epoch: int, metrics: Metrics) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()])

    try:
        yield log_metrics
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


@contextlib.contextmanager
def track_wandb(folder: Path, parameters: dict[str, Any]) -> Iterator[LogMetrics]:
    """Log to `wandb/`, for `wandb sync`; with WANDB_API_KEY or WANDB_MODE set, the run is sent at once."""
    configured = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_MODE"))
    if not configured:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    run_id = _read_run_id(folder, "wandb")
    extra: dict[str, Any] = {} if configured else {"mode": "offline"}
    if run_id is not None:
        extra |= {"id": run_id} | ({"resume": "allow"} if configured else {})
    run: Any = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=folder.resolve().name,
        dir=str(folder),
        config=parameters,
        settings=wandb.Settings(silent=True, console="off"),
        **extra,
    )
    _write_run_id(folder, "wandb", run.id)
    code = 1
    try:
        yield lambda epoch, metrics: run.log(metrics, step=epoch)
        code = 0
    finally:
        run.finish(exit_code=code)


def _read_run_id(folder: Path, kind: str) -> str | None:
    """The id of the run that tracks this folder's training; None before the first start."""
    file = folder / "tracking.json"
    return read_record(file).get(kind) if file.exists() else None


def _write_run_id(folder: Path, kind: str, run_id: str) -> None:
    file = folder / "tracking.json"
    write_json(file, (read_record(file) if file.exists() else {}) | {kind: run_id})


TRACKERS = {"mlflow": track_mlflow, "tensorboard": track_tensorboard, "wandb": track_wandb}
