"""The loss of each sample that training minimises: only the training step itself can give it."""

from dataclasses import dataclass

from torch import Tensor

from easycoreset.errors import UsageError
from easycoreset.hardness import Hardness, Outputs
from easycoreset.hardness.folds import Fold, Mean


@dataclass(frozen=True, kw_only=True)
class ObjectiveLoss(Hardness):
    """Mean of the sample's part of the loss that a step minimises, before its weight; recorded online only."""

    name = "objective_loss"
    column = "objective_loss"
    recorded_only = True
    online = True

    def measure(self, outputs: Outputs) -> Tensor:
        """Raise: no pass over clean samples gives it.

        Raises:
            UsageError: always.
        """
        raise UsageError("hardness objective_loss is recorded in training steps only")

    def fold(self) -> Fold:
        """Make an empty fold."""
        return Mean()
