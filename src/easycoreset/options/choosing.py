"""Options of the steps of a plan that have no command: choosing a coreset, measuring further columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from easycoreset.options.groups import ComputeOptions, FractionOptions, SelectionOptions, ValidationOptions
from easycoreset.options.objects import Several


@dataclass(frozen=True, kw_only=True)
class ChooseOptions(ValidationOptions, FractionOptions, SelectionOptions, ComputeOptions):
    """Options of choosing a coreset in a plan: with scores, or for methods that read none, with the data alone."""

    scores: Path | None = None
    """The folder of a scoring run; default: the method reads no scores."""
    measured: Path | None = None
    """The folder of further columns and features of that run."""


@dataclass(frozen=True, kw_only=True)
class CarryOptions(ComputeOptions):
    """Options of taking over the scores of an earlier state of the data."""

    scores: Path
    """The folder of the scoring run."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(ComputeOptions):
    """Options of measuring further columns and features with the weights that a scoring run kept."""

    scores: Path
    """The folder of the scoring run."""
    model: str | None = None
    """The model's package.module:factory, where it is one."""
    hardness: Several[str] = ()
    """Hardness measures, comma-separated."""
    save_features: Literal["clean", "adversarial"] | None = None
    """Also write penultimate features and probabilities; adversarial: also at PGD examples."""
    split: Literal["train", "test"] = "train"
    """Split that is measured."""
    feature_layer: str | None = None
    """Layer whose input is saved as features; default: the last linear layer."""
