"""Methods named after a column: they keep its hard end, as the pruning literature compares them."""

from dataclasses import dataclass
from typing import ClassVar

from easycoreset.selection.extremes import Hardest
from easycoreset.tables import Coreset, Scores


@dataclass(frozen=True, kw_only=True)
class HardEnd:
    """Keeps the highest values of the subclass's `column`."""

    cost: ClassVar[str] = "n log n"
    column: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    per_class: bool = False

    def __init_subclass__(cls) -> None:
        cls.needs = (cls.column,)

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        return Hardest(by=self.column, per_class=self.per_class)(scores, count, seed)


class EL2N(HardEnd):
    """Keeps the highest EL2N (Paul et al. 2021)."""

    column = "el2n"


class GraNd(HardEnd):
    """Keeps the highest GraNd, of the last layer (Paul et al. 2021)."""

    column = "grand"


class Forgetting(HardEnd):
    """Keeps the samples that are forgotten most often; those never learned come first (Toneva et al. 2019)."""

    column = "forgetting"


class AUM(HardEnd):
    """Keeps the lowest area under the margin (Pleiss et al. 2020, who remove them as mislabelled)."""

    column = "aum"


class Loss(HardEnd):
    """Keeps the highest mean cross-entropy over training."""

    column = "loss"


class Uncertainty(HardEnd):
    """Keeps the highest dynamic uncertainty (He et al. 2023)."""

    column = "uncertainty"


class VoG(HardEnd):
    """Keeps the highest variance of gradients (Agarwal et al. 2022)."""

    column = "vog"


class Entropy(HardEnd):
    """Keeps the highest entropy of the last epoch's prediction (Coleman et al. 2020)."""

    column = "entropy"


class LeastConfidence(HardEnd):
    """Keeps the least confident predictions of the last epoch (Coleman et al. 2020)."""

    column = "least_confidence"


class ProbGap(HardEnd):
    """Keeps the smallest gap between the two highest probabilities of the last epoch (Coleman et al. 2020)."""

    column = "prob_gap"


class DeepFool(HardEnd):
    """Keeps the smallest margin (Ducoffe & Precioso 2018), by FMN, which is tighter than their DeepFool."""

    column = "boundary"


class TDDS(HardEnd):
    """Keeps the samples whose predictions move least evenly within windows of 10 epochs (Zhang et al. 2024)."""

    column = "tdds"
