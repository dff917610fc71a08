"""Training runs in MLflow, Weights & Biases or TensorBoard: offline, in the run's folder, unless told otherwise."""

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
from easycoreset.processes import leads
from easycoreset.records import read_record

Metrics = dict[str, float]
Log = Callable[[int, Metrics], object]  # (epoch, its metrics)
PROJECT = "easycoreset"


class Numbered(Protocol):
    """What is followed: an epoch with a number and metrics, None where there is no value."""

    @property
    def number(self) -> int: ...

    @property
    def metrics(self) -> dict[str, float | None]: ...


E = TypeVar("E", bound=Numbered)


def check_tracker(kind: str | None) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UsageError: the extra is missing.
    """
    if kind is not None and importlib.util.find_spec(kind) is None:
        raise UsageError(f"track {kind} needs {kind}: pip install easycoreset[track]")


def follow(epochs: Iterable[E], options: RecipeOptions, folder: Path) -> Iterator[E]:
    """Yield the epochs; when the caller is done with one, log its metrics, the first process alone.

    A tracker that fails on the way is reported and does not stop the training.
    """
    if options.track is None or not leads():
        yield from epochs
        return
    for name in TRACKERS:
        if (folder / name).is_symlink():
            raise UsageError(f"track: {folder / name} is a link: nothing is written through it")
    with TRACKERS[options.track](folder, options_json(options)) as note:
        for epoch in epochs:
            yield epoch
            metrics = {name: value for name, value in epoch.metrics.items() if value is not None and name != "epoch"}
            try:
                note(epoch.number, metrics)
            except Exception as error:  # a server may be gone
                log.warning("warning: track %s: epoch %d is not logged: %s", options.track, epoch.number, error)


@contextlib.contextmanager
def track_tensorboard(folder: Path, parameters: dict[str, Any]) -> Iterator[Log]:
    """Event files in `tensorboard/`; the options are a table under the tab Text."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        rows = "".join(f"| {name} | {value} |\n" for name, value in parameters.items())
        writer.add_text("options", f"| option | value |\n|---|---|\n{rows}")

        def note(epoch: int, metrics: Metrics) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

        yield note


@contextlib.contextmanager
def track_mlflow(folder: Path, parameters: dict[str, Any]) -> Iterator[Log]:
    """A run on the server that MLFLOW_TRACKING_URI names, else in `mlflow/`: SQLite, or files for mlflow-skinny."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    home = folder.resolve() / "mlflow"
    place = None if uri else (home / "artifacts").as_uri()
    if not uri:
        home.mkdir(exist_ok=True)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        sql = all(importlib.util.find_spec(name) is not None for name in ("sqlalchemy", "alembic"))
        if not sql:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = f"sqlite:///{home}/mlflow.db" if sql else home.as_uri()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=uri)
    run = _begun(folder, "mlflow")
    if run is None:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name, artifact_location=place) if known is None else known.experiment_id
        run = client.create_run(experiment, run_name=folder.resolve().name).info.run_id
        client.log_batch(run, params=[Param(name, str(value)[:500]) for name, value in parameters.items()])
        _begin(folder, "mlflow", run)
    else:
        client.update_run(run, "RUNNING")
    state = "FAILED"

    def note(epoch: int, metrics: Metrics) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()])

    try:
        yield note
        state = "FINISHED"
    finally:
        client.set_terminated(run, state)


@contextlib.contextmanager
def track_wandb(folder: Path, parameters: dict[str, Any]) -> Iterator[Log]:
    """A run in `wandb/`, to be sent by `wandb sync`; sent at once where WANDB_API_KEY or WANDB_MODE is set."""
    told = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_MODE"))
    if not told:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    before = _begun(folder, "wandb")
    given: dict[str, Any] = {} if told else {"mode": "offline"}
    if before is not None:
        given |= {"id": before} | ({"resume": "allow"} if told else {})
    run: Any = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=folder.resolve().name,
        dir=str(folder),
        config=parameters,
        settings=wandb.Settings(silent=True, console="off"),
        **given,
    )
    _begin(folder, "wandb", run.id)
    code = 1
    try:
        yield lambda epoch, metrics: run.log(metrics, step=epoch)
        code = 0
    finally:
        run.finish(exit_code=code)


def _begun(folder: Path, kind: str) -> str | None:
    """The run that this folder's training began with, where it goes on."""
    file = folder / "tracking.json"
    return read_record(file).get(kind) if file.exists() else None


def _begin(folder: Path, kind: str, run: str) -> None:
    file = folder / "tracking.json"
    write_json(file, (read_record(file) if file.exists() else {}) | {kind: run})


TRACKERS = {"mlflow": track_mlflow, "tensorboard": track_tensorboard, "wandb": track_wandb}
