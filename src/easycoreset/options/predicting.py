"""Options of `predict`."""

from dataclasses import dataclass
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.groups import ComputeOptions, InferenceOptions


@dataclass(frozen=True, kw_only=True)
class PredictOptions(InferenceOptions, ComputeOptions):
    """Options of `predict`."""

    data: str
    """A folder of images, with or without class folders, or an .npz with x; labels are not looked at."""
    weights: Path
    """Folder of a trained model, as `train` and `score` write it."""
    model: str | None = None
    """package.module:factory of the model, which is imported only when repeated here."""
    raw: bool = False
    """Leave names in labels.csv as they are; without it what a spreadsheet would take for a formula begins with '."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weights.is_dir(), "weights", "a trained model's folder", str(self.weights))
