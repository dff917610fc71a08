"""AIGN: the norm of the loss's gradient with respect to the input, averaged over training."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from easycoreset.errors import UsageError
from easycoreset.hardness import Dtype, Hardness, Outputs
from easycoreset.hardness.folds import Fold, Mean

ORDERS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}


def spec_of_column(name: str) -> str:
    """The spelling of the measure that gives a column.

    >>> spec_of_column("aign_l1_squared"), spec_of_column("loss"), spec_of_column("dual_60")
    ('aign:norm=l1:squared=true', 'loss', 'dual:first=60')
    """
    start, _, number = name.rpartition("_")
    if start and number.isdecimal():
        return f"{start}:first={number}"
    words = {
        "squared": "squared=true",
        "model": "space=model",
        "float64": "dtype=float64",
        "bfloat16": "dtype=bfloat16",
    }
    words |= {norm: f"norm={norm}" for norm in ORDERS}
    first, *parts = name.split("_")
    is_variant = first == "aign" and all(part in words for part in parts)
    return ":".join([first, *(words[part] for part in parts)]) if is_variant else name


@dataclass(frozen=True, kw_only=True)
class AIGN(Hardness):
    """Average input gradient norm (EasyCore, arXiv 2510.11018): mean over epochs of ||grad_x CE(f(x), y)||_2.

    In pixel space, unsquared, over all of C*H*W; options other than the default are in the name of the column.
    """

    gradient = "loss"
    online = True
    norm: Literal["l1", "l2", "linf"] = "l2"
    squared: bool = False
    space: Literal["pixel", "model"] = "pixel"
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] (a read-only value)
        """Its column in the scores: aign, aign_l1_squared, ..."""
        parts = [
            "aign",
            *(value for value, default in ((self.norm, "l2"), (self.dtype, "float32")) if value != default),
        ]
        return "_".join(parts + ["squared"] * self.squared + ["model"] * (self.space == "model"))

    @property
    def column(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] (a read-only value)
        """Its column of the trajectory, which has the same name."""
        return self.name

    def measure(self, outputs: Outputs) -> Tensor:
        """The norms of one epoch, [B]."""
        assert outputs.gradient is not None
        return self.measure_gradient(outputs.gradient, outputs.input_std)

    def measure_gradient(self, gradient: Tensor, input_std: Tensor | None = None) -> Tensor:
        """Map [B,C,H,W] gradients in pixel space to [B] norms, float32 or better."""
        if self.space == "model":
            if input_std is None:
                raise UsageError("hardness aign:space=model needs a model whose first layer is our normalisation")
            gradient = gradient * input_std.view(1, -1, 1, 1)
        norm_dtype = torch.float64 if gradient.dtype == torch.float64 else torch.float32
        dims = tuple(range(1, gradient.ndim))
        norm = torch.linalg.vector_norm(gradient, ORDERS[self.norm], dim=dims, dtype=norm_dtype)
        return norm.square() if self.squared else norm

    def fold(self) -> Fold:
        """The mean over epochs."""
        return Mean()
