"""How the pictures of samples are called in a folder."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from easycoreset.data.folder import IMAGE_SUFFIXES


def are_files(sample_ids: Sequence[str]) -> bool:
    """Whether samples are named as an image folder's are: by a path with a picture's suffix."""
    return all("/" in name and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in sample_ids)


def name_picture(index: int, class_name: str, samples: int, suffix: str = ".png") -> str:
    """The file of a sample that has no name in a folder a class: its index.

    >>> name_picture(7, "T-shirt/top", 1438)
    'T-shirt%2Ftop/0007.png'
    """
    quoted = "".join(f"%{ord(c):02X}" if c in "%/\0" else c for c in class_name)
    if not quoted or quoted.startswith("."):
        quoted = f"%{quoted}"
    return f"{quoted}/{index:0{len(str(samples - 1))}d}{suffix}"
