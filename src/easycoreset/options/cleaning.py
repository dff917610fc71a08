"""Options of `clean`."""

from dataclasses import dataclass, field

from easycoreset.errors import require
from easycoreset.options.fields import NEUTRAL, with_default
from easycoreset.options.groups import CommandOptions, ReadingOptions
from easycoreset.options.objects import DATA, GivenPath, Named
from easycoreset.options.overlap import require_disjoint


@dataclass(frozen=True, kw_only=True)
class CleanOptions(ReadingOptions, CommandOptions):
    """Options of `clean`."""

    out: GivenPath = field(metadata=NEUTRAL)
    """Where the cleaned data are written: a folder (new, or from an earlier clean) that gets links to the images in
    train/ and test/; a new .csv, which becomes a manifest; or a new .npz of arrays."""
    data: Named = field(metadata=DATA)
    """The image folder, the manifest or the .npz that was audited; it is not changed."""
    decisions: GivenPath = field(metadata=NEUTRAL)
    """The decisions that the audit's page saved."""
    skip_unreadable: bool = with_default(ReadingOptions, "skip_unreadable", True)
    """Leave out unreadable images; with --no-skip-unreadable they are an error."""
    copy: bool = False
    """Copy the images into the folder; default: symbolic links."""
    new_classes: bool = False
    """Allow decisions that add new classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_disjoint(self)
        require(not self.copy or self.out.suffix not in (".csv", ".npz"), "copy", "left out with a file as out", True)
