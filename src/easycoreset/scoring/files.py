"""The files and folders of a scoring run."""

from pathlib import Path

from easycoreset.tables.features import RECORD, feature_file_names
from easycoreset.training import MODEL_FILES

SPLITS = ("train", "test")


def scores_file(folder: Path, split: str) -> Path:
    """The file of a split's scores."""
    return folder / ("scores.parquet" if split == "train" else f"scores_{split}.parquet")


def trajectory_folder(folder: Path, split: str) -> Path:
    """The folder of a split's per-epoch values."""
    return folder / ("trajectory" if split == "train" else f"trajectory_{split}")


OUTPUT_NAMES = (
    *MODEL_FILES,
    "checkpoints",
    "agreement",
    RECORD,
    *feature_file_names("clean"),
    *feature_file_names("adversarial"),
    *(path_of(Path(), split).name for path_of in (scores_file, trajectory_folder) for split in SPLITS),
)  # the files and folders that `score` may write
