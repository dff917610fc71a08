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
TAKERS = {
    "data": ("folder", "fiftyone"),
    "scores": ("csv", "hf", "fiftyone", "card"),
    "copy": ("folder",),
    "raw": ("csv", "cleanlab"),
    "model": ("onnx",),
}
OF_MODELS = ("robustbench", "onnx")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    source: Path
    """scores.parquet, a coreset, audit.parquet, or a folder that a command wrote."""
    _: KW_ONLY
    format: Form
    """What is written; `export --list` says what each form is."""
    out: Path
    """The file (.txt or .npz for index, .json for fiftyone and robustbench, .md for card, else as the form is called),
    or for folder and hf a folder that is empty, new, or of an earlier export."""
    data: str | None = None
    """Where the data set lies now, for folder and fiftyone; left out: where it was scored."""
    scores: Path | None = None
    """Scores that go with a coreset; left out: those it was chosen from, where they still lie there."""
    copy: bool = False
    """Copy the pictures of an image folder or a manifest; left out: symbolic links to them."""
    raw: bool = False
    """Leave text in CSV as it is; without it what a spreadsheet would take for a formula begins with '."""
    model: str | None = None
    """package.module:factory of the model, for onnx, which is imported only when repeated here."""

    def __post_init__(self) -> None:
        validate(self)
        if self.format in OF_MODELS:
            require(
                self.source.is_dir(), "source", f"a folder that a command wrote, for {self.format}", str(self.source)
            )
        require(self.source.exists(), "source", "a file or folder that is there", str(self.source))
        suffixes = SUFFIXES[self.format]
        if suffixes:
            require(self.out.suffix in suffixes, "out", f"a {' or '.join(suffixes)} file", str(self.out))
            require(not self.out.is_dir(), "out", "a file, not a folder", str(self.out))
        require(self.out.resolve() != self.source.resolve(), "out", "another place than source", str(self.out))
        if not suffixes:
            require_disjoint(self)
        for name, takers in TAKERS.items():
            value = getattr(self, name)
            if value not in (None, False) and self.format not in takers:
                raise UsageError(f"{name} is for format {' and '.join(takers)}; got {quote(value)} for {self.format}")
