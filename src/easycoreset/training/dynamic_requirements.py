"""What a dynamic method requires of training: columns that its steps give, and passes that the model allows."""

from typing import Any

import torch
from torch import nn

from easycoreset.data import Batch
from easycoreset.dynamic import columns_of, load_dynamic_method
from easycoreset.errors import UsageError, quote
from easycoreset.hardness import load_hardness
from easycoreset.hardness.exact import normalisation_std
from easycoreset.hardness.gradient import spec_of_column
from easycoreset.objectives import Objective
from easycoreset.recorder import HardnessRecorder
from easycoreset.training.passes import ModelPasses
from easycoreset.training.setup import TrainingSetup


def make_loss_recorder(setup: TrainingSetup, model: nn.Module) -> HardnessRecorder:
    """A recorder of the columns that the setup's dynamic method reads."""
    assert setup.method is not None
    return _make_recorder(setup.method, setup.objective_name, model, len(setup.split))


def _make_recorder(method_name: str, objective_name: str, model: nn.Module, size: int) -> HardnessRecorder:
    """A recorder of `size` samples for a method.

    Raises:
        UsageError: the method reads a column that training steps do not give.
    """
    method: Any = load_dynamic_method(method_name)[1]
    columns = columns_of(method)
    for column in columns:
        rule = f"a recorded column with one value per epoch, like aign_online; got {quote(column)}"
        if not column.endswith("_online") or column.startswith("grad_norm"):
            raise UsageError(f"method {quote(method_name)} must read {rule}")
        measure = load_hardness([spec_of_column(column.removesuffix("_online"))], in_training=True)[0]
        if measure.column != measure.name or measure.is_wide:
            raise UsageError(f"method {quote(method_name)} must read {rule}")
    plain = objective_name == "standard" and getattr(method, "has_weights", None) is False
    reads_gradients = any(column.startswith("aign") for column in columns)
    if reads_gradients and not plain:
        raise UsageError(
            f"method {quote(method_name)} reads aign_online, the gradient of plain cross-entropy without weights; "
            f"{objective_name} minimises another loss"
        )
    std = normalisation_std(model)
    return HardnessRecorder(
        size,
        "mean",
        "cross_entropy" if reads_gradients else objective_name,
        hardness=[spec_of_column(name.removesuffix("_online")) for name in columns],
        model_std=None if std is None else std.tolist(),
    )


def check_method(method_name: str, objective: Objective, objective_name: str, model: nn.Module, few: Batch) -> None:
    """Try what a dynamic method asks of a model, on a few samples.

    Raises:
        UsageError: the model, the objective or a training step does not give it.
    """
    method: Any = load_dynamic_method(method_name)[1]
    _make_recorder(method_name, objective_name, model, len(few.x))
    rows = Batch(torch.arange(len(few.x), device=few.x.device), few.x, few.y)
    passes = ModelPasses(model, lambda: [rows], few.y.cpu().numpy(), objective, seed=0, epoch=1)
    if hasattr(method, "selector"):
        passes.table(method.selector())
    if getattr(method, "uses_gradients", False):
        passes.gradients()
    if getattr(method, "refreshes", False):
        for column in method.columns:
            passes.refresh(column, clean=False)
