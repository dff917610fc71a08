"""Hardness: a value of every sample in one scored epoch, and a fold of the epochs into one number.

Higher is always harder. Each family is one file, each hardness one line of `HARDNESS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.errors import UsageError, quote
from easycoreset.hardness.folds import Fold
from easycoreset.members import load_member

HARDNESS = {
    "aign": "easycoreset.hardness.gradient:AIGN",
    "loss": "easycoreset.hardness.logits:LOSS",
    "el2n": "easycoreset.hardness.logits:EL2N",
    "grand": "easycoreset.hardness.last_layer:GRAND",
    "forgetting": "easycoreset.hardness.logits:FORGETTING",
    "aum": "easycoreset.hardness.logits:AUM",
    "uncertainty": "easycoreset.hardness.logits:UNCERTAINTY",
    "entropy": "easycoreset.hardness.logits:ENTROPY",
    "least_confidence": "easycoreset.hardness.logits:LEAST_CONFIDENCE",
    "prob_gap": "easycoreset.hardness.logits:PROB_GAP",
    "boundary": "easycoreset.hardness.boundary:Boundary",
    "curvature": "easycoreset.hardness.curvature:Curvature",
    "grand_full": "easycoreset.hardness.parameters:GrandFull",
    "vog": "easycoreset.hardness.vog:VoG",
}
CHEAP = "cheap"  # selects all measures that are not expensive


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The size of a scoring run: samples, values per image, parameters of the model, scored epochs."""

    samples: int
    pixels: int
    parameters: int
    epochs: int


@dataclass(frozen=True)
class Outputs:
    """The outputs of a pass over one batch.

    Attributes:
        logits: [B, classes], float32 or float64.
        y: [B] int64.
        gradient: [B,C,H,W], gradient of each sample's cross-entropy with respect to its input in [0,1]; None
            without a backward pass.
        input_std: [C] standard deviation of the model's normalisation; None without one.
        features: [B, d], the input of the last linear layer; None if no measure needs it.
        has_bias: whether that layer has a bias.
        model: the model.
        x: [B,C,H,W], the input.
        index: [B] int64.
        epoch: number of the epoch, from 1.
        seed: seed of random draws.
        trainable: names of the parameters that require a gradient.
    """

    logits: Tensor
    y: Tensor
    gradient: Tensor | None = None
    input_std: Tensor | None = None
    features: Tensor | None = None
    has_bias: bool = False
    model: nn.Module | None = None
    x: Tensor | None = None
    index: Tensor | None = None
    epoch: int = 1
    seed: int = 0
    trainable: tuple[str, ...] = ()

    @cached_property
    def log_p(self) -> Tensor:
        """Log-probabilities, [B, classes]."""
        return F.log_softmax(self.logits, 1)

    @cached_property
    def p(self) -> Tensor:
        """Probabilities, [B, classes]."""
        return self.log_p.exp()


@runtime_checkable
class Hardness(Protocol):
    """A hardness measure that gives one value per sample and epoch, and folds the epochs into one number."""

    @property
    def name(self) -> str:
        """Its column in the scores."""
        ...

    @property
    def column(self) -> str:
        """The column of the trajectory that it folds."""
        ...

    @property
    def dtype(self) -> str:
        """The dtype that its pass needs."""
        ...

    @property
    def needs_gradient(self) -> bool:
        """Whether its pass needs the input gradient."""
        ...

    @property
    def needs_features(self) -> bool:
        """Whether its pass needs the input of the last linear layer."""
        ...

    @property
    def expensive(self) -> bool:
        """Whether it is expensive and measured on request only; it then describes its cost in `price`."""
        ...

    @property
    def scored_epochs(self) -> slice:
        """The scored epochs in which it is measured."""
        ...

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        ...

    def fold(self) -> Fold:
        """Make an empty fold, to which epochs are added."""
        ...


@dataclass(frozen=True)
class ForwardHardness:
    """A hardness that needs only a forward pass.

    Attributes:
        name: its column in the scores.
        column: the column of the trajectory that it folds.
        function: computes the values of one epoch, [B].
        fold: makes an empty fold, to which epochs are added.
        description: what it measures, with the paper.
    """

    name: str
    column: str
    function: Callable[[Outputs], Tensor]
    fold: Callable[[], Fold]
    description: str
    dtype: str = "float32"
    needs_gradient: bool = False
    needs_features: bool = False
    expensive: bool = False
    scored_epochs: ClassVar[slice] = slice(None)

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        return self.function(outputs)


@runtime_checkable
class ExpensiveHardness(Protocol):
    """An expensive hardness, which is measured on request only."""

    name: str

    def price(self, extent: Workload) -> str:
        """Its cost, as text for users."""
        ...


class MultiEpochHardness(ExpensiveHardness, Protocol):
    """An expensive hardness that needs the weights of all scored epochs together, instead of one value per epoch."""

    expensive: bool


def load_all_hardness(specs: Sequence[str]) -> list[Hardness | MultiEpochHardness]:
    """Load the measures named by `specs`; `cheap`, or no specs, means all of `HARDNESS` that are not expensive.

    Raises:
        UsageError: unknown measure or option, or a duplicate column.
    """
    measures: list[Hardness | MultiEpochHardness] = []
    for spec in specs or (CHEAP,):
        members = [load_member("hardness", name, HARDNESS) for name in (HARDNESS if spec == CHEAP else (spec,))]
        measures += [measure for measure in members if spec != CHEAP or not measure.expensive]
    names = [measure.name for measure in measures]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise UsageError(f"hardness must be named once each; got {quote(duplicate)} twice")
    return measures


def load_hardness(specs: Sequence[str]) -> list[Hardness]:
    """Load the measures named by `specs`, without those that need all epochs together."""
    return [measure for measure in load_all_hardness(specs) if isinstance(measure, Hardness)]
