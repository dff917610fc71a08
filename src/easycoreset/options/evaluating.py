"""Options of `evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from easycoreset.options.fields import NEUTRAL, with_default
from easycoreset.options.groups import (
    PIXELS,
    AttackOptions,
    ComputeOptions,
    InferenceOptions,
    NormalisationOptions,
    NormOptions,
    check_normalisation,
    check_radii,
)

RADII = {"linf": PIXELS, "l2": (0.25, 0.5, 1.0)}  # of an evaluation that names none


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(NormalisationOptions, InferenceOptions, AttackOptions, NormOptions, ComputeOptions):
    """Options of `evaluate`."""

    host = "weights"  # whose folder may take the evaluation

    weights: Path
    """Folder of a trained model, as `train` and `score` write it; or a state dict of anybody's, with --model."""
    model: str | None = None
    """Model of a state dict; of a folder only a package.module:factory, which is imported only when repeated here."""
    attack: Sequence[str] = with_default(AttackOptions, "attack", ("pgd", "pgd:loss=margin"))
    eps: Sequence[float] = with_default(AttackOptions, "eps", ())
    """Radii, with commas between; left out: 1, 2, 4 and 8/255 for linf, 0.25, 0.5 and 1 for l2."""
    split: Literal["train", "test"] = "test"
    """Split to evaluate on."""
    margins: Sequence[str] = field(default=(), metadata=NEUTRAL)
    """Measure each sample's distance to the boundary too: fmn (as the flag alone means), ddn, deepfool."""
    strict: bool = field(default=False, metadata=NEUTRAL)
    """Exit with 1 where a check gives a warning."""
    save_adversarial: bool = field(default=False, metadata=NEUTRAL)
    """Write the adversarial images too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_normalisation(self)
        object.__setattr__(self, "eps", self.eps or RADII[self.norm])
        check_radii(self.eps, self.norm)
