"""What a dynamic method chooses for each epoch of a training run, and what its choices cost."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from easycoreset.data import Batch
from easycoreset.dynamic import LOSS, EpochChoice, columns_of
from easycoreset.dynamic.chooser import DynamicChooser
from easycoreset.errors import RunError, UsageError
from easycoreset.process_group import broadcast, rank, world_size
from easycoreset.recorder import HardnessRecorder
from easycoreset.tables import Floats
from easycoreset.training.array_state import with_arrays, with_tensors
from easycoreset.training.passes import ModelPasses
from easycoreset.training.sampling import EpochOrder, Metrics, shuffle
from easycoreset.training.setup import TrainingSetup


class DynamicSampling:
    """Lets a dynamic method choose before each epoch; rows that do not fill a batch come first in the next epoch.

    Args:
        setup: the training run; its training samples are the pool.
        recorder: gives the present values.
    """

    def __init__(self, setup: TrainingSetup, recorder: HardnessRecorder) -> None:
        assert setup.method is not None
        options = setup.options
        self.setup = setup
        self.recorder = recorder
        self.pool = setup.train_indices
        labels = setup.split.labels[self.pool]
        self.chooser = DynamicChooser(setup.method, labels, setup.fraction, options.seed, options.batch_size)
        self.columns = columns_of(self.chooser.method)
        self.times = np.zeros(len(setup.split), np.int32)  # how often each sample was trained on
        self.passes = 0
        self.forward_passes = 0.0  # the steps of attacks among them
        self.seconds = 0.0
        self.weights = [1.0, 1.0]  # the lowest and the highest of any epoch
        self.left = EpochOrder(np.zeros(0, np.int64), None, 0)  # chosen, and not trained on yet
        self.order = self.left
        self.metrics: Metrics = {}

    def begin_epoch(self, epoch: int, progress: float, steps_left: int, model: nn.Module) -> EpochOrder:
        """Choose the rows of the epoch; with several processes, the choice of the main process is used.

        Raises:
            UsageError: the method's choice is invalid in the first epoch.
            RunError: the method's choice is invalid in a later epoch.
        """
        start = time.monotonic()
        passes = self._passes(model, epoch)
        try:
            choice = self.chooser.choose(epoch, progress, self._present(), passes)
        except UsageError as error:
            if epoch == 1:
                raise
            raise RunError(str(error)) from None
        choice = broadcast(choice)
        seconds = time.monotonic() - start
        self.passes += passes.count
        self.forward_passes += passes.forward
        self.seconds += seconds
        self.metrics = self._describe(choice) | {
            "selection_passes": passes.count,
            "selection_seconds": seconds,
        }
        if choice.weight is not None:
            lowest, highest = float(choice.weight.min()), float(choice.weight.max())
            self.weights = [min(self.weights[0], lowest), max(self.weights[1], highest)]
        self.chooser.previous = choice
        self.order = self._arrange(choice, epoch, steps_left)
        return self.order

    def end_epoch(self) -> Metrics:
        """Count the samples that were trained on; return metrics of the choice and its cost."""
        size = self.setup.options.batch_size
        trained = self.order.index[: self.order.steps * size]
        np.add.at(self.times, trained, 1)
        weight = None if self.order.weight is None else self.order.weight[len(trained) :]
        self.left = EpochOrder(self.order.index[len(trained) :], weight, 0)
        return self.metrics

    def state_dict(self) -> dict[str, Any]:
        """Choices, counts and costs."""
        previous = self.chooser.state_dict()
        return {
            "order": _order_state(self.order),
            "left": _order_state(self.left),
            "previous": None if previous is None else with_tensors(previous),
            "times": torch.from_numpy(self.times.copy()),
            "passes": self.passes,
            "forward_passes": self.forward_passes,
            "seconds": self.seconds,
            "weights": list(self.weights),
            "metrics": dict(self.metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> EpochOrder | None:
        """Restore them."""
        previous = state["previous"]
        self.chooser.load_state_dict(None if previous is None else with_arrays(previous))
        self.order, self.left = (self._load_order(state[name]) for name in ("order", "left"))
        self.times = state["times"].numpy().copy()
        self.passes = state["passes"]
        self.forward_passes = state["forward_passes"]
        self.weights = list(state["weights"])
        self.seconds = state["seconds"]
        self.metrics = dict(state["metrics"])
        return self.order

    def summary(self, history: Sequence[Metrics]) -> dict[str, Any]:
        """What training saw, for `run.json`: how many samples were trained on how often, and the cost of choosing.

        Means are over the epochs of `history`; `changed` over those in which the choice did change.
        """
        times = self.times[self.pool]
        values, counts = np.unique(times, return_counts=True)
        shares = [line["share"] or 0.0 for line in history]
        changed = [line["changed"] for line in history if line["changed"]]
        return {
            "method": self.chooser.name,
            "weights": self.weights,
            "mean_share": float(np.mean(shares)),
            "distinct_samples": int((times > 0).sum()),
            "times_trained": dict(zip(map(str, values.tolist()), counts.tolist(), strict=True)),
            "changed": float(np.mean(changed)) if changed else 0.0,
            **{name: mean_of(history, name) for name in ("present_loss", "present_loss_of_all", "median_age")},
            "selection_passes": self.passes,
            "forward_passes": round(self.forward_passes, 3),
            "selection_seconds": round(self.seconds, 2),
        }

    def _present(self) -> dict[str, Floats]:
        """The present values of the pool's rows; NaN before the first epoch."""
        return {column: self.recorder.latest(column)[self.pool] for column in self.columns}

    def _passes(self, model: nn.Module, epoch: int) -> ModelPasses:
        setup = self.setup
        row_of = torch.full((len(setup.split),), -1, device=setup.device)
        row_of[torch.from_numpy(self.pool).to(setup.device)] = torch.arange(len(self.pool), device=setup.device)

        def batches() -> Iterator[Batch]:
            local = self.pool[rank() :: world_size()]
            for batch in setup.split.batches(local, setup.options.batch_size, setup.device):
                yield Batch(row_of[batch.index], batch.x, batch.y)

        def store(column: str, values: Floats) -> None:
            everything = np.full(len(setup.split), np.nan, np.float32)
            everything[self.pool] = values
            self.recorder.set_latest(column, everything)

        return ModelPasses(
            model,
            batches,
            self.chooser.labels,
            setup.objective,
            seed=setup.options.seed,
            epoch=epoch,
            autocast=setup.autocast,
            data_name=setup.source.name,
            on_refresh=store,
        )

    def _arrange(self, choice: EpochChoice, epoch: int, steps_left: int) -> EpochOrder:
        """What was left over, then the chosen rows in the order of (seed, epoch)."""
        setup = self.setup
        positions = shuffle(np.arange(len(choice.rows), dtype=np.int64), setup, epoch)
        index = np.concatenate([self.left.index, self.pool[choice.rows[positions]]])
        weight = None
        if choice.weight is not None or self.left.weight is not None:
            new = np.ones(len(choice.rows), np.float32) if choice.weight is None else choice.weight
            old = torch.ones(len(self.left.index)) if self.left.weight is None else self.left.weight.cpu()
            weight = torch.cat([old, torch.from_numpy(new[positions])]).to(setup.device)
        return EpochOrder(index, weight, min(max(1, len(index) // setup.options.batch_size), steps_left))

    def _describe(self, choice: EpochChoice) -> Metrics:
        """The share of the pool, how much of it is new, the loss of what was chosen, and how old these losses are."""
        rows = np.unique(choice.rows)
        before = self.chooser.previous
        loss = self.recorder.latest(LOSS)[self.pool]  # a pass may have renewed them
        ages = self.recorder.age(LOSS)[self.pool]
        seen = ages >= 0
        return {
            "share": len(choice.rows) / len(self.pool),
            "changed": None if before is None else float(1 - np.isin(rows, before.rows).mean()),
            "present_loss": _finite_mean(loss[choice.rows]),
            "present_loss_of_all": _finite_mean(loss),
            "median_age": float(np.median(ages[seen])) if seen.any() else None,
        }

    def _load_order(self, state: dict[str, Any]) -> EpochOrder:
        weight = state["weight"]
        return EpochOrder(
            state["index"].numpy().copy(), None if weight is None else weight.to(self.setup.device), state["steps"]
        )


def mean_of(history: Sequence[Metrics], name: str) -> float | None:
    """Mean of a metric over the epochs that have it."""
    values = [value for line in history if (value := line[name]) is not None]
    return float(np.mean(values)) if values else None


def _finite_mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if len(finite) else None


def _order_state(order: EpochOrder) -> dict[str, Any]:
    weight = None if order.weight is None else order.weight.cpu()
    return {"index": torch.from_numpy(order.index.copy()), "weight": weight, "steps": order.steps}
