"""Hardness: what one scored epoch measures of every sample, and how epochs are folded into one number.

Higher is always harder. One family a file, one line of `HARDNESS` a hardness.
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
CHEAP = "cheap"  # stands for all that cost nothing


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much there is to measure: scored samples, values of an image, parameters of the model, scored epochs."""

    samples: int
    pixels: int
    parameters: int
    epochs: int


@dataclass(frozen=True)
class Outputs:
    """What a pass knows of one batch.

    Attributes:
        logits: [B, classes], float32 or float64.
        y: [B] int64.
        gradient: [B,C,H,W], of each sample's own cross-entropy with respect to its input in [0,1]; None without
            a backward pass.
        input_std: [C] of the model's normalisation, None where it has none.
        features: [B, d], the input of the last linear layer; None where no measure asked for it.
        bias: whether that layer has one.
        model: which gave them.
        x: [B,C,H,W], its input.
        index: [B] int64.
        epoch: from 1.
        seed: of random draws.
        trainable: names of the parameters that require a gradient.
    """

    logits: Tensor
    y: Tensor
    gradient: Tensor | None = None
    input_std: Tensor | None = None
    features: Tensor | None = None
    bias: bool = False
    model: nn.Module | None = None
    x: Tensor | None = None
    index: Tensor | None = None
    epoch: int = 1
    seed: int = 0
    trainable: tuple[str, ...] = ()

    @cached_property
    def log_p(self) -> Tensor:
        """[B, classes]."""
        return F.log_softmax(self.logits, 1)

    @cached_property
    def p(self) -> Tensor:
        """[B, classes]."""
        return self.log_p.exp()


@runtime_checkable
class Hardness(Protocol):
    """One hardness."""

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
        """The arithmetic that its pass needs."""
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
    def opt_in(self) -> bool:
        """Whether it costs so much that it must be asked for; it then says in `price` what it takes."""
        ...

    @property
    def scored_epochs(self) -> slice:
        """Which of the scored epochs it is measured in."""
        ...

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        ...

    def fold(self) -> Fold:
        """A fresh fold of epochs."""
        ...


@dataclass(frozen=True)
class ForwardHardness:
    """A hardness that a forward pass gives.

    Attributes:
        name: its column in the scores.
        column: the column of the trajectory that it folds.
        function: the values of one epoch.
        fold: makes a fresh fold of epochs.
        says: what it is, with its paper.
    """

    name: str
    column: str
    function: Callable[[Outputs], Tensor]
    fold: Callable[[], Fold]
    says: str
    dtype: str = "float32"
    needs_gradient: bool = False
    needs_features: bool = False
    opt_in: bool = False
    scored_epochs: ClassVar[slice] = slice(None)

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        return self.function(outputs)


@runtime_checkable
class OptIn(Protocol):
    """A hardness that costs so much that it must be asked for."""

    name: str

    def price(self, extent: Extent) -> str:
        """What it takes, for people."""
        ...


class Swept(OptIn, Protocol):
    """One that is no fold of a number an epoch: it looks at the weights of all scored epochs together."""

    opt_in: bool


def load_all_hardness(specs: Sequence[str]) -> list[Hardness | Swept]:
    """Load the measures that `specs` spell, `cheap` for all of `HARDNESS` that cost nothing; so do no specs at all.

    Raises:
        UsageError: unknown measure or option, or one column twice.
    """
    measures: list[Hardness | Swept] = []
    for spec in specs or (CHEAP,):
        found = [load_member("hardness", name, HARDNESS) for name in (HARDNESS if spec == CHEAP else (spec,))]
        measures += [measure for measure in found if spec != CHEAP or not measure.opt_in]
    names = [measure.name for measure in measures]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"hardness must be named once each; got {quote(twice)} twice")
    return measures


def load_hardness(specs: Sequence[str]) -> list[Hardness]:
    """The same without those that look at all scored epochs together."""
    return [measure for measure in load_all_hardness(specs) if isinstance(measure, Hardness)]
