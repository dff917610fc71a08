"""Options of `export`."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from easycoreset.errors import UsageError, quote, require
from easycoreset.options.fields import validate
from easycoreset.options.overlap import require_disjoint

Form = Literal["csv", "index", "folder", "hf", "fiftyone", "cleanlab", "card", "robustbench", "onnx"]
SUFFIXES: dict[str, tuple[str, ...]] = {
    "csv": (".csv",),
    "index": (".txt", ".npz"),
    "folder": (),
    "hf": (),
    "fiftyone": (".json",),
    "cleanlab": (".csv",),
    "card": (".md",),
    "robustbench": (".json",),
    "onnx": (".onnx",),
}
FORMATS_OF_OPTION = {
    "data": ("folder", "fiftyone"),
    "scores": ("csv", "hf", "fiftyone", "card"),
    "copy": ("folder",),
    "raw": ("csv", "cleanlab"),
    "model": ("onnx",),
}
MODEL_FORMATS = ("robustbench", "onnx")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    source: Path
    """A scores.parquet, a coreset, an audit.parquet, or a folder written by a command."""
    _: KW_ONLY
    format: Form
    """Output format; `export --list` describes them."""
    out: Path
    """Output file (.txt or .npz for index, .json for fiftyone and robustbench, .md for card, .csv, .onnx); for folder
    and hf a folder that is new, empty, or from an earlier export."""
    data: str | None = None
    """Where the data set is now, for folder and fiftyone; default: where it was scored."""
    scores: Path | None = None
    """Scores of a coreset's samples; default: those it was chosen from, if they still exist there."""
    copy: bool = False
    """Copy the images of an image folder or a manifest; default: symbolic links."""
    raw: bool = False
    """Leave text in CSV unchanged; without it, text that looks like a spreadsheet formula gets a leading '."""
    model: str | None = None
    """package.module:factory of the model, for onnx; it is imported only if named here again."""

    def __post_init__(self) -> None:
        validate(self)
        if self.format in MODEL_FORMATS:
            require(
                self.source.is_dir(), "source", f"a folder that a command wrote, for {self.format}", str(self.source)
            )
        require(self.source.exists(), "source", "an existing file or folder", str(self.source))
        suffixes = SUFFIXES[self.format]
        if suffixes:
            require(self.out.suffix in suffixes, "out", f"a {' or '.join(suffixes)} file", str(self.out))
            require(not self.out.is_dir(), "out", "a file, not a folder", str(self.out))
        require(self.out.resolve() != self.source.resolve(), "out", "a path other than source", str(self.out))
        if not suffixes:
            require_disjoint(self)
        for name, formats in FORMATS_OF_OPTION.items():
            value = getattr(self, name)
            if value not in (None, False) and self.format not in formats:
                raise UsageError(f"{name} is for format {' and '.join(formats)}; got {quote(value)} for {self.format}")
