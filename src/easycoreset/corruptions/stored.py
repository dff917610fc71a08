"""Corrupted images from elsewhere: the arrays of CIFAR-10-C and CIFAR-100-C."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easycoreset.corruptions import SEVERITIES
from easycoreset.errors import UsageError, require
from easycoreset.paths import is_plain_file

STANDARD = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)  # the 15 whose mean is reported; the benchmark's four others are not read
IMAGES = 10_000  # of each severity
LABELS = "labels.npy"
KINDS = ("cifar10-c", "cifar100-c")


@dataclass(frozen=True)
class StoredCorruption:
    """A severity of a file of corrupted images of the test split.

    Attributes:
        name: `cifar10-c:` and the file's name.
        severity: 1 to 5.
        file: file of images [50000,32,32,3] uint8, 10,000 of each severity.
    """

    name: str
    severity: int
    file: Path

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        """The corrupted images [B,C,H,W] of the samples `index` [B]."""
        rows = (self.severity - 1) * IMAGES + index.cpu().numpy()
        images = torch.from_numpy(np.load(self.file, mmap_mode="r")[rows])
        return images.permute(0, 3, 1, 2).to(x.device).float() / 255


def is_stored(spec: str) -> bool:
    """Whether a corruption's spelling names a folder of arrays."""
    return spec.partition(":")[0] in KINDS


def open_stored(spec: str, labels: npt.NDArray[np.int64]) -> list[StoredCorruption]:
    """The 15 corruptions of a folder `cifar10-c:DIR`, at five severities.

    Args:
        spec: the folder.
        labels: [10000] of the test split.

    Raises:
        UsageError: files are missing or damaged, or are of other images.
    """
    kind, _, place = spec.partition(":")
    folder = Path(place)
    files = [folder / f"{name}.npy" for name in STANDARD]
    missing = [file.name for file in (*files, folder / LABELS) if not is_plain_file(file)]
    require(bool(place) and not missing, "corruptions", f"{kind}:DIR with all arrays", f"{spec}: no {missing[:3]}")
    stored = _open(folder / LABELS, (len(SEVERITIES) * IMAGES,))
    if not np.array_equal(stored, np.tile(labels, len(SEVERITIES))):
        raise UsageError(f"corruptions: {folder / LABELS} does not hold the labels of the {len(labels)} samples")
    for file in files:
        _open(file, (len(SEVERITIES) * IMAGES, 32, 32, 3))
    return [StoredCorruption(f"{kind}:{file.stem}", severity, file) for file in files for severity in SEVERITIES]


def _open(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"corruptions: {file}: not a readable .npy file: {error}") from None
    found = f"{array.dtype} {array.shape}"
    integers = np.issubdtype(array.dtype, np.integer) if len(shape) == 1 else array.dtype == np.uint8
    require(bool(integers) and array.shape == shape, "corruptions", f"{file.name} of shape {shape}, uint8", found)
    return array
