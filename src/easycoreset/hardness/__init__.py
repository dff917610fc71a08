"""Hardness: a value of every sample in one scored epoch, and a fold of the epochs into one number.

Higher is always harder. Each family is one file, each hardness one line of `HARDNESS`.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

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
    "dual": "easycoreset.hardness.confidence:Dual",
    "mean_error": "easycoreset.hardness.confidence:MeanError",
    "tdds": "easycoreset.hardness.tdds:TDDS",
    "objective_loss": "easycoreset.hardness.objective_loss:ObjectiveLoss",
}
Dtype = Literal["float32", "float64", "bfloat16"]
Gradient = Literal["loss", "true_logit"] | None
WIDE_MEMORY = 2**30  # bytes for the values and moments of a wide measure, in float32 and twice in float64
CHEAP = "cheap"  # selects all measures that are neither expensive nor on request


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
        gradient: [B,C,H,W], gradient of each sample's cross-entropy, or of its true class's logit, with respect to its
            input in [0,1]; None without a backward pass.
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


class Hardness(abc.ABC):
    """A hardness measure: the values of every sample in one scored epoch, and a fold of the epochs into one number.

    Attributes:
        name: its column in the scores.
        column: the column of the trajectory that it folds.
        dtype: the dtype that its pass needs.
        gradient: the quantity whose gradient with respect to the input its pass needs: the loss, the true class's
            logit, or None.
        needs_features: whether its pass needs the input of the last linear layer.
        expensive: whether it is measured on request only; `describe_cost` then says why.
        online: whether a training step gives it, from logits, features, input gradients or losses; a pass over clean
            samples then needs nothing else either.
        only_if_named: whether it is measured on request only although it costs nothing.
        recorded_only: whether only a training step gives it, and no pass over clean samples.
        is_wide: whether a sample has many values in an epoch, [B, d]. They are then not a column of the trajectory, but
            are folded after training with the weights of the scored epochs, for as many samples at a time as fit into
            memory (the fold keeps 16 bytes per value).
        scored_epochs: the scored epochs in which it is measured.
        standardised: whether the folded values are standardised within each class; `NAME_raw` has the values before.
        counts_events: whether runs of several seeds are merged by the sum, not by the mean.
    """

    version: int = 1
    name: str
    column: str
    dtype: Dtype = "float32"
    gradient: Gradient = None
    needs_features: bool = False
    expensive: bool = False
    online: bool = False
    only_if_named: bool = False
    recorded_only: bool = False
    is_wide: bool = False
    scored_epochs: slice = slice(None)
    standardised: bool = False
    counts_events: bool = False

    @abc.abstractmethod
    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B], or [B, d] if they are wide."""

    @abc.abstractmethod
    def fold(self) -> Fold:
        """Make an empty fold, to which epochs are added."""

    def describe_cost(self, workload: Workload) -> str:
        """Its cost in addition to one pass per scored epoch, as text for users; empty if there is none."""
        return ""

    def count_passes(self, epochs: int) -> int:
        """Forward and backward passes per sample, in addition to the pass per scored epoch that all measures share."""
        return 0


@dataclass(frozen=True)
class ForwardHardness(Hardness):
    """A hardness that needs only a forward pass.

    Attributes:
        name: its column in the scores.
        column: the column of the trajectory that it folds.
        function: computes the values of one epoch, [B].
        make_fold: makes an empty fold, to which epochs are added.
        description: what it measures, with the paper.
    """

    name: str
    column: str
    function: Callable[[Outputs], Tensor]
    make_fold: Callable[[], Fold]
    description: str
    needs_features: bool = False
    counts_events: bool = False
    online: bool = True

    def measure(self, outputs: Outputs) -> Tensor:
        """The values of one epoch, [B]."""
        return self.function(outputs)

    def fold(self) -> Fold:
        """Make an empty fold."""
        return self.make_fold()


def load_hardness(specs: Sequence[str], in_training: bool = False) -> list[Hardness]:
    """Load the measures named by `specs`; `cheap`, or no specs, means all of `HARDNESS` that are not expensive.

    Args:
        specs: names with their options.
        in_training: whether training steps are measured, rather than passes over clean samples.

    Raises:
        UsageError: unknown measure or option, a duplicate column, or one that only training steps give.
    """
    measures: list[Hardness] = []
    for spec in specs or (CHEAP,):
        members = [load_member("hardness", name, HARDNESS) for name in (HARDNESS if spec == CHEAP else (spec,))]
        foreign = next((m for m in members if not isinstance(m, Hardness)), None)
        if foreign is not None:
            raise UsageError(
                f"hardness {quote(spec)} must be of a subclass of easycoreset.hardness.Hardness; got "
                f"{type(foreign).__name__}"
            )
        possible = [measure for measure in members if in_training or not measure.recorded_only]
        if spec != CHEAP and not possible:
            raise UsageError(f"hardness {quote(spec)} is recorded in training steps only (--mode online)")
        measures += [m for m in possible if spec != CHEAP or not (m.expensive or m.only_if_named)]
    names = [measure.name for measure in measures]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise UsageError(f"hardness must be named once each; got {quote(duplicate)} twice")
    return measures


def provenance_of(measures: Sequence[Hardness], suffix: str = "") -> dict[str, list[str]]:
    """The provenance that merging needs: the columns that count events, which are summed over seeds."""
    counts = [f"{measure.name}{suffix}" for measure in measures if measure.counts_events]
    return {"counts": counts} if counts else {}
