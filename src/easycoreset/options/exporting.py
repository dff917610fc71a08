"""Options of `export`."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NamedTuple

from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.options.fields import validate
from easycoreset.options.objects import DATA, MODEL, RESULT, SCORES, GivenPath, Named
from easycoreset.options.overlap import require_disjoint


class ExportFormat(NamedTuple):
    """A format of `export`.

    Attributes:
        write: `module:function`, called with the options.
        suffixes: suffixes of the output file; empty for a folder.
        options: the options, besides source, out and format, that apply.
        of_model: whether the source is a folder of a model.
        write_comparison: `module:function` for the folder of a comparison; empty where there is none.
    """

    write: str = ""
    suffixes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    of_model: bool = False
    write_comparison: str = ""


FORMATS = {
    "csv": ExportFormat(
        "easycoreset.exporting.csv:write_csv",
        (".csv",),
        ("scores", "raw", "spread"),
        write_comparison="easycoreset.reporting.paper_table:write_csv",
    ),
    "latex": ExportFormat("", (".tex",), ("spread",), write_comparison="easycoreset.reporting.paper_table:write_latex"),
    "markdown": ExportFormat(
        "", (".md",), ("spread",), write_comparison="easycoreset.reporting.paper_table:write_markdown"
    ),
    "figures": ExportFormat("", write_comparison="easycoreset.exporting.figures:write_figures"),
    "index": ExportFormat("easycoreset.exporting.index:write_index", (".txt", ".npz")),
    "folder": ExportFormat("easycoreset.exporting.folder:write_folder", (), ("data", "copy", "decisions")),
    "hf": ExportFormat("easycoreset.exporting.huggingface:write_dataset", (), ("scores",)),
    "fiftyone": ExportFormat("easycoreset.exporting.fiftyone:write_samples", (".json",), ("data", "scores")),
    "cleanlab": ExportFormat("easycoreset.exporting.cleanlab:write_issues", (".csv",), ("raw",)),
    "card": ExportFormat("easycoreset.exporting.card:write_card", (".md",), ("scores",)),
    "robustbench": ExportFormat("easycoreset.exporting.robustbench:write_model_information", (".json",), of_model=True),
    "onnx": ExportFormat("easycoreset.exporting.onnx:write_onnx", (".onnx",), ("model",), of_model=True),
}


@dataclass(frozen=True)
class ExportOptions:
    """Options of `export`."""

    source: GivenPath = field(metadata=RESULT)
    """A scores.parquet, a coreset, an audit.parquet, or a folder that a command wrote (for latex: `compare`)."""
    _: KW_ONLY
    format: str
    """Output format; `export --list` describes them."""
    out: GivenPath
    """Output file (.txt or .npz for index, .json for fiftyone and robustbench, .md for card, .csv, .onnx); for folder
    and hf a folder that is new, empty, or from an earlier export."""
    data: Named | None = field(default=None, metadata=DATA)
    """Where the data set is now, for folder and fiftyone; default: where it was scored."""
    decisions: GivenPath | None = None
    """The decisions with which a data set of arrays was scored; image files do not need them."""
    scores: GivenPath | None = field(default=None, metadata=SCORES)
    """Scores of a coreset's samples; default: those it was chosen from, if they still exist there."""
    copy: bool = False
    """Copy the images of an image folder or a manifest; default: symbolic links."""
    spread: Literal["std", "interval"] = "std"
    """Spread beside each mean of a comparison: std over seeds, or the 95% interval over seeds and test images."""
    raw: bool = False
    """Leave text in CSV unchanged; without it, text that looks like a spreadsheet formula gets a leading '."""
    model: Named | None = field(default=None, metadata=MODEL)
    """package.module:factory of the model, for onnx; it is imported only if named here again."""

    def __post_init__(self) -> None:
        validate(self)
        if self.format not in FORMATS:
            raise UsageError(f"unknown format {quote(self.format)}: {suggest_name(self.format, FORMATS)}")
        form = FORMATS[self.format]
        if form.of_model:
            require(
                self.source.is_dir(), "source", f"a folder that a command wrote, for {self.format}", str(self.source)
            )
        require(self.source.exists(), "source", "an existing file or folder", str(self.source))
        if form.suffixes:
            require(self.out.suffix in form.suffixes, "out", f"a {' or '.join(form.suffixes)} file", str(self.out))
            require(not self.out.is_dir(), "out", "a file, not a folder", str(self.out))
        require(self.out.resolve() != self.source.resolve(), "out", "a path other than source", str(self.out))
        if not form.suffixes:
            require_disjoint(self)
        for name in sorted({name for known in FORMATS.values() for name in known.options}):
            value = getattr(self, name)
            if value not in (None, False, "std") and name not in form.options:
                others = " and ".join(other for other, known in FORMATS.items() if name in known.options)
                raise UsageError(f"{name} is for format {others}; got {quote(value)} for {self.format}")
