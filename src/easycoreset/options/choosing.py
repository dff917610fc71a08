"""Options of `select` and `evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from easycoreset.errors import require
from easycoreset.options.apart import find_inputs
from easycoreset.options.kinds import NEUTRAL, Integer, Names, Norm, Number, Numbers, Switch
from easycoreset.options.training import ComputeOptions, RunOptions, check_input, check_val_fraction


@dataclass(frozen=True, kw_only=True)
class SelectOptions(RunOptions):
    """Options of `select`; `out` is one .parquet file."""

    scores: Path
    """A scores.parquet, as `score` writes it."""
    fraction: Number
    """Share of the samples that is kept, in (0, 1]."""
    method: str = "easycore"
    """easycore, random, herding, ...[:key=value]... (`select --list` shows all), file:PATH, or package.module:name."""
    by: str | None = None
    """Column of the scores that easiest, middle, hardest, stratified, ccs and d2 go by (each has its own default)."""
    per_class: Switch | None = None
    """Keep the fraction within each class."""
    val_fraction: Number | None = None
    """Share of the split that is held out of the choice, as `train` holds it out; the fraction is of the rest."""

    exclude: Path | None = None
    """A list of indices or sample ids that are left out of the choice, as an audit's page writes it."""
    keep_leaked: Switch = False
    """Choose from samples too whose exact copies are in the test part; without it they are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_val_fraction(self.val_fraction)
        require(0 < self.fraction <= 1, "fraction", "in (0, 1]", self.fraction)
        require(self.out.suffix == ".parquet", "out", "a .parquet file", str(self.out))
        for name, path in find_inputs(self):
            require(self.out.resolve() != path.resolve(), "out", f"another file than {name}", str(self.out))


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ComputeOptions):
    """Options of `evaluate`."""

    host = "weights"  # whose folder may take the evaluation

    weights: Path
    """Folder of a trained model, as `train` and `score` write it; or a state dict of anybody's, with --model."""
    model: str | None = None
    """Model of a state dict; of a folder only a package.module:factory, which is imported only when repeated here."""
    input_mean: Numbers = ()
    """Mean that a state dict's model wants subtracted, a number or one a channel; left out: it takes [0,1]."""
    input_std: Numbers = ()
    """Standard deviation that it wants the input divided by, likewise."""
    attack: Names = ("pgd", "pgd:loss=margin")
    """Attacks, with commas between: fgsm, pgd, noise, square, apgd, autoattack[:key=value]..., file:PATH (images)."""
    norm: Norm = "linf"
    """Norm of the ball."""
    eps: Numbers | None = None
    """Radii, with commas between; left out: 1, 2, 4 and 8/255 for linf, 0.25, 0.5 and 1 for l2."""
    split: Literal["train", "test"] = "test"
    """Split to evaluate on."""
    limit: Integer | None = None
    """Evaluate a seeded draw of so many samples; left out: all."""
    batch_size: Integer = field(default=250, metadata=NEUTRAL)
    """Samples a batch."""
    margins: Names = field(default=(), metadata=NEUTRAL)
    """Measure each sample's distance to the boundary too: fmn (as the flag alone means), ddn, deepfool."""
    strict: Switch = field(default=False, metadata=NEUTRAL)
    """Exit with 1 where a check gives a warning."""
    save_adversarial: Switch = field(default=False, metadata=NEUTRAL)
    """Write the adversarial images too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_input(self.input_mean, self.input_std)
        default = (1 / 255, 2 / 255, 4 / 255, 8 / 255) if self.norm == "linf" else (0.25, 0.5, 1.0)
        eps = default if self.eps is None else tuple(self.eps)
        object.__setattr__(self, "eps", eps)
        for value in eps:
            require(value >= 0 and (self.norm == "l2" or value <= 1), "eps", "in [0, 1] for linf, >= 0 for l2", value)
        require(len(set(eps)) == len(eps) > 0, "eps", "given, each value once", eps)
        require(len(set(self.attack)) == len(self.attack), "attack", "named once each", self.attack)
        require(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)
        require(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
