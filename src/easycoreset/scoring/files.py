"""Where a scoring run puts its tables."""

from pathlib import Path


def scores_file(folder: Path, split: str) -> Path:
    """Where a split's scores are."""
    return folder / ("scores.parquet" if split == "train" else f"scores_{split}.parquet")


def trajectory_folder(folder: Path, split: str) -> Path:
    """Where a split's per-epoch values are."""
    return folder / ("trajectory" if split == "train" else f"trajectory_{split}")
