"""Options of `select`."""

from dataclasses import dataclass, field

from easycoreset.errors import require
from easycoreset.options.fields import SHARE
from easycoreset.options.groups import CommandOptions, SeedOptions, SelectionOptions, ValidationOptions
from easycoreset.options.objects import SCORES, GivenPath
from easycoreset.options.overlap import find_inputs


@dataclass(frozen=True, kw_only=True)
class SelectOptions(ValidationOptions, SelectionOptions, SeedOptions, CommandOptions):
    """Options of `select`; `out` is one .parquet file."""

    scores: GivenPath = field(metadata=SCORES)
    """A folder that `score` wrote, a scores.parquet, or published:cifar10 and the like, which come with the package."""
    fraction: float = field(metadata=SHARE)
    """Share of the samples that is kept, in (0, 1]; with val_fraction, of those not held out."""
    by: str | None = None
    """Column of the scores used by easiest, middle, hardest, stratified, ccs and d2 (each has a default)."""
    per_class: bool | None = None
    """Keep the fraction within each class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.out.suffix == ".parquet", "out", "a .parquet file", str(self.out))
        for name, path in find_inputs(self):
            require(self.out.resolve() != path.resolve(), "out", f"another file than {name}", str(self.out))
