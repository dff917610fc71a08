"""Names of image files in an exported folder."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from easycoreset.data.folder import IMAGE_SUFFIXES


def are_image_paths(sample_ids: Sequence[str]) -> bool:
    """Whether all sample ids are those of an image folder: relative paths with an image suffix."""
    return all("/" in name and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES for name in sample_ids)


def name_image(index: int, class_name: str, samples: int, suffix: str = ".png") -> str:
    """The relative path CLASS/INDEX for the image of a sample that has no file name.

    >>> name_image(7, "T-shirt/top", 1438)
    'T-shirt%2Ftop/0007.png'
    """
    return f"{name_class_folder(class_name)}/{index:0{len(str(samples - 1))}d}{suffix}"


def name_class_folder(class_name: str) -> str:
    """The name of a class's folder: `/` and `%` become `%2F` and `%25`."""
    folder = "".join(f"%{ord(char):02X}" if char in "%/\0" else char for char in class_name)
    return f"%{folder}" if not folder or folder.startswith(".") else folder
