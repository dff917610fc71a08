"""Passes of dynamic methods over all samples with the present model, in eval mode and without augmentation."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.console import log
from easycoreset.data import Batch
from easycoreset.data.keyed_random import derive_seed
from easycoreset.dynamic import pool_table
from easycoreset.errors import RunError, UsageError, quote
from easycoreset.feature_extraction import compute_features, perturb_batch
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import measure_all, pass_of
from easycoreset.hardness.gradient import spec_of_column
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.models.modes import device_of, frozen, full_float32
from easycoreset.objectives import Adversarial, LogitObjective, Objective
from easycoreset.process_group import rank, world_size
from easycoreset.selection import Selector, required_inputs
from easycoreset.selection.geometry import Gradients, GradientSum
from easycoreset.tables import Floats, Ints, Scores
from easycoreset.tables.scores import ARRAYS
from easycoreset.training.distributed import merge_processes

ADVERSARIAL_EPS = 8 / 255  # of adversarial features where the objective has no radius
Batches = Callable[[], Iterable[Batch]]


class ModelPasses:
    """Passes over a pool of n rows; with several processes, each process takes a part of the rows.

    Args:
        model: the present model.
        batches: gives the batches of a pass; their `index` are rows of the pool, 0..n-1.
        labels: [n] labels of the pool.
        objective: what training minimises.
        seed: of the attacks' random starts, with the epoch.
        epoch: the epoch that is chosen for.
        autocast: whether training runs the model under bf16 autocast; losses are then taken under it too.
        feature_layer: the layer whose input is the features; None for the last linear layer.
        data_name: name of the data set, by which some methods choose defaults.
        on_refresh: is given each refreshed column's name and values.

    Attributes:
        count: passes over all rows so far.
        forward: forward passes of the model in them, the steps of attacks among them.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        labels: Ints,
        objective: Objective,
        *,
        seed: int,
        epoch: int,
        autocast: bool = False,
        feature_layer: str | None = None,
        data_name: str = "",
        on_refresh: Callable[[str, Floats], None] = lambda column, values: None,
    ) -> None:
        self.model = model
        self.batches = batches
        self.labels = labels
        self.objective = objective
        self.seed = seed
        self.epoch = epoch
        self.autocast = autocast
        self.feature_layer = feature_layer
        self.data_name = data_name
        self.on_refresh = on_refresh
        self.count = 0
        self.forward = 0.0

    def refresh(self, column: str, clean: bool) -> Floats:
        """Measure a column of all rows, [n]: of the objective's losses with its attack, unless `clean`.

        Raises:
            UsageError: no pass gives the column.
        """
        name = column.removesuffix("_online")
        if name == "objective_loss":
            values = self._collect(lambda batch: self._losses(batch, clean))[name]
        else:
            values = self._measure([spec_of_column(name)])[name]
        if lost := int(np.sum(~np.isfinite(values))):
            log.warning("warning: %d values of %s are not finite: these samples keep their old ones", lost, column)
        if not clean:  # clean losses are of another kind than those that training records
            self.on_refresh(column, values)
        return values

    def table(self, selector: Selector) -> Scores:
        """The columns and arrays that a static method reads; all cheap columns for one that does not say.

        Raises:
            UsageError: one pass does not give them.
        """
        needs = required_inputs(selector)
        arrays = [name for name in needs or () if name in ARRAYS]
        names = [name for name in needs or () if name not in ARRAYS]
        columns = {} if needs is not None and not names else self._measure([spec_of_column(name) for name in names])
        facts: dict[str, Any] = {}
        if arrays:
            layer = self._last_layer()
            facts["bias"] = layer.has_bias
            if any(name.endswith("_adv") for name in arrays):
                facts |= self._features(layer, "_adv")
            if any(not name.endswith("_adv") for name in arrays):
                facts |= self._features(layer, "")
        return pool_table(self.labels, columns, provenance={"data": self.data_name}, **facts)

    def gradients(self) -> GradientSum:
        """The gradients of the objective's losses with respect to the last linear layer.

        With x' the objective's example, that is g x (h, 1) + g' x (h', 1), where g and g' are the gradients of the loss
        at the logits of x and x'; Dolatabadi et al. 2022 write it out for TRADES.

        Raises:
            UsageError: the losses of the objective are not a function of logits, or there is no last linear layer.
            RunError: a gradient is not finite.
        """
        if not isinstance(self.objective, LogitObjective):
            raise UsageError(
                "acs needs an objective with `logit_losses`, which gives its losses from logits; "
                f"{type(self.objective).__name__} has none"
            )
        layer = self._last_layer()
        values = self._collect(lambda batch: self._gradient_parts(batch, layer))
        lost = int(np.sum(~np.all([np.isfinite(array).all(1) for array in values.values()], axis=0)))
        if lost:
            raise RunError(f"the last layer's gradients of {lost} samples are not finite: use a smaller --lr")
        terms = [term for term in ("", "_adv") if f"error{term}" in values]
        return GradientSum(tuple(Gradients(values[f"error{term}"], values[f"inputs{term}"]) for term in terms))

    def _losses(self, batch: Batch, clean: bool) -> dict[str, Tensor]:
        device_type = batch.x.device.type
        autocast = torch.autocast(device_type, torch.bfloat16) if self.autocast else contextlib.nullcontext()
        with frozen(self.model), autocast:
            if clean:
                losses = F.cross_entropy(self.model(batch.x).float(), batch.y, reduction="none")
            else:  # a user's may need gradients with respect to its input
                losses = self.objective(self.model, batch.x, batch.y, self._generator(batch))
        return {"objective_loss": losses.detach().float()}

    def _gradient_parts(self, batch: Batch, layer: LastLayer) -> dict[str, Tensor]:
        """Gradients at the logits, and the inputs of the last layer, of the batch and of its examples."""
        objective = self.objective
        assert isinstance(objective, LogitObjective)
        with frozen(self.model), full_float32():
            inputs = [batch.x]
            if isinstance(objective, Adversarial):
                inputs.append(objective.perturb(self.model, batch.x, batch.y, self._generator(batch)))
            logits, features = zip(*(self._forward(x, layer) for x in inputs), strict=True)
        with torch.enable_grad():
            losses = objective.logit_losses(logits[0], logits[-1], batch.y).sum()
        gradients = torch.autograd.grad(losses, logits, allow_unused=True)
        parts: dict[str, Tensor] = {}
        for term, error, h in zip(("", "_adv"), gradients, features, strict=False):
            if error is not None:  # the loss depends on these logits
                ones = h.new_ones(len(h), int(layer.has_bias))
                parts |= {f"error{term}": error, f"inputs{term}": torch.cat([h, ones], 1)}
        return parts

    def _forward(self, x: Tensor, layer: LastLayer) -> tuple[Tensor, Tensor]:
        """Logits [B, classes], a leaf that asks for its gradient, and features [B, d]."""
        with torch.no_grad(), layer.capture_inputs():
            logits = self.model(x).float()
            features = layer.pop_features(len(x)).float()
        return logits.detach().requires_grad_(), features

    def _features(self, layer: LastLayer, ending: str) -> dict[str, Any]:
        eps = getattr(self.objective, "eps", ADVERSARIAL_EPS)

        def compute(batch: Batch) -> dict[str, Tensor]:
            if ending:
                batch = perturb_batch(self.model, batch, eps, self.seed)
            features, probabilities = compute_features(self.model, batch, layer)
            return {f"features{ending}": features, f"probabilities{ending}": probabilities}

        return self._collect(compute)

    def _measure(self, specs: list[str]) -> dict[str, Floats]:
        """Columns of the present model."""
        measures = load_hardness(specs)
        for measure in measures:
            if measure.is_wide:
                raise UsageError(
                    f"column {quote(measure.name)} combines the models of several epochs; one pass cannot compute it"
                )
        columns = measure_all(
            self.model,
            self.batches,
            len(self.labels),
            measures,
            feature_layer=self.feature_layer,
            epoch=self.epoch,
            seed=self.seed,
        )
        passes = len({pass_of(measure) for measure in measures})
        self.count += passes
        self.forward += passes
        merged = merge_processes(columns, device_of(self.model))
        folded: dict[str, Floats] = {}
        for measure in measures:
            fold = measure.fold()
            fold.add(merged[measure.column])
            folded[measure.name] = fold.result()
            if specs and not np.isfinite(folded[measure.name]).any():
                raise UsageError(f"column {quote(measure.name)} has no value after one pass over the samples")
        return {name: values for name, values in folded.items() if np.isfinite(values).any()}

    def _collect(self, compute: Callable[[Batch], dict[str, Tensor]]) -> dict[str, Floats]:
        """Compute tensors [B, ...] for every batch, put into the rows of arrays [n, ...]."""
        arrays: dict[str, Floats] = {}
        with self._counted():
            for batch in self.batches():
                rows = batch.index.cpu().numpy()
                for name, tensor in compute(batch).items():
                    values = tensor.detach().float().cpu().numpy()
                    if name not in arrays:
                        arrays[name] = np.full((len(self.labels), *values.shape[1:]), np.nan, np.float32)
                    arrays[name][rows] = values
        return merge_processes(arrays, device_of(self.model))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the samples that the model is run on."""
        samples = 0

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            nonlocal samples
            samples += len(inputs[0])

        handle = self.model.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()
            self.count += 1
            self.forward += samples * world_size() / len(self.labels)

    def _last_layer(self) -> LastLayer:
        """The layer whose input is the features, found by two samples."""
        return find_last_layer(self.model, next(iter(self.batches())).x[:2], self.feature_layer)

    def _generator(self, batch: Batch) -> torch.Generator:
        """The random starts of a batch's attack, by seed, epoch and its first row."""
        keys = ("pass", self.epoch, int(batch.index[0]), rank())
        return torch.Generator(batch.x.device).manual_seed(derive_seed(self.seed, *keys))
