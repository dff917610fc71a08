"""Where a scoring run puts its tables."""

from pathlib import Path

from easycoreset.tables.features import RECORD, file_names
from easycoreset.training import MODEL_PLACES

SPLITS = ("train", "test")


def scores_file(folder: Path, split: str) -> Path:
    """Where a split's scores are."""
    return folder / ("scores.parquet" if split == "train" else f"scores_{split}.parquet")


def trajectory_folder(folder: Path, split: str) -> Path:
    """Where a split's per-epoch values are."""
    return folder / ("trajectory" if split == "train" else f"trajectory_{split}")


PLACES = (
    *MODEL_PLACES,
    "checkpoints",
    "agreement",
    RECORD,
    *file_names("clean"),
    *file_names("adversarial"),
    *(place(Path(), split).name for place in (scores_file, trajectory_folder) for split in SPLITS),
)  # what `score` may write
