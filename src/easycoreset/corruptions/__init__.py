"""Common corruptions of images (Hendrycks & Dietterich, ICLR 2019), with the constants of CIFAR-10-C.

A corruption is a function (image, severity, rng) -> image, [H,W,C] in [0,1], of severity 1 to 5. One line of
`CORRUPTIONS` per corruption; a user's `package.module:function` stands in the same place.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from easycoreset.data.keyed_random import derive_seed
from easycoreset.errors import UsageError, describe_error, quote, require
from easycoreset.members import load_member, split_spec

CORRUPTIONS = {
    "gaussian_noise": "easycoreset.corruptions.noise:gaussian_noise",
    "shot_noise": "easycoreset.corruptions.noise:shot_noise",
    "impulse_noise": "easycoreset.corruptions.noise:impulse_noise",
    "gaussian_blur": "easycoreset.corruptions.blur:gaussian_blur",
    "motion_blur": "easycoreset.corruptions.blur:motion_blur",
    "brightness": "easycoreset.corruptions.colour:brightness",
    "contrast": "easycoreset.corruptions.colour:contrast",
    "saturate": "easycoreset.corruptions.colour:saturate",
    "pixelate": "easycoreset.corruptions.compression:pixelate",
    "jpeg_compression": "easycoreset.corruptions.compression:jpeg_compression",
}
IN_COLOUR = ("saturate",)
BENCHMARK_CORRUPTIONS = tuple(
    name for name in CORRUPTIONS if name not in ("gaussian_blur", "saturate")
)  # of the benchmark's 15
SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
SMALLEST = 8  # pixels of a side

Floats = npt.NDArray[np.float64]


class CorruptionFunction(Protocol):
    """Changes an image in a way that occurs in practice."""

    def __call__(self, image: Floats, severity: int, rng: np.random.Generator) -> Floats:
        """The corrupted image [H,W,C]; values outside [0,1] are clipped afterwards."""
        ...


@dataclass(frozen=True)
class Corruption:
    """A corruption at one severity, drawn anew for each image by the seed and the image's index.

    Attributes:
        name: of `CORRUPTIONS`, or `package.module:function`.
        severity: 1 to 5.
        function: what changes an image.
        seed: of its random numbers.
    """

    name: str
    severity: int
    function: CorruptionFunction
    seed: int = 0

    def __call__(self, x: Tensor, index: Tensor) -> Tensor:
        """Corrupt images [B,C,H,W] in [0,1] of the samples `index` [B]; the result has 256 values, as in uint8.

        Raises:
            UsageError: a user's corruption fails, or returns an image of another shape, NaN or infinity.
        """
        images = x.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)
        corrupted = [self.corrupt(image, row) for image, row in zip(images, index.tolist(), strict=True)]
        return torch.from_numpy(np.stack(corrupted)).permute(0, 3, 1, 2).to(x.device).float() / 255

    def corrupt(self, image: Floats, index: int) -> npt.NDArray[np.uint8]:
        """One image [H,W,C]."""
        rng = np.random.default_rng(derive_seed("corruption", self.seed, self.name, index))
        try:
            changed = self.function(image, self.severity, rng)
        except Exception as error:
            raise UsageError(f"corruption {quote(self.name)} fails: {describe_error(error)}") from error
        shape = getattr(changed, "shape", None)
        require(shape == image.shape, "corruption", f"a function that returns images of shape {image.shape}", shape)
        require(bool(np.isfinite(changed).all()), "corruption", "a function that returns numbers", "NaN or infinity")
        return (changed.clip(0, 1) * 255).astype(np.uint8)


def load_corruptions(spec: str, shape: tuple[int, ...], seed: int) -> list[Corruption]:
    """The corruptions that `all` or `NAME[:severity=S]` names, at all severities where none is given.

    Args:
        spec: the corruption's spelling.
        shape: (C, H, W) of the images; with one channel, `all` leaves out corruptions of colour.
        seed: seed of the random numbers.

    Raises:
        UsageError: unknown name or severity, or images that are too small or have no colour.
    """
    channels, *sides = shape
    require(min(sides) >= SMALLEST, "corruptions", f"left out for images of less than {SMALLEST} pixels a side", shape)
    if spec == ALL:
        names = [name for name in CORRUPTIONS if channels == 3 or name not in IN_COLOUR]
        return [one for name in names for one in load_corruptions(name, shape, seed)]
    name, options = split_spec(spec)
    severity = options.pop("severity", None)
    if severity is not None and severity not in map(str, SEVERITIES):
        raise UsageError(f"corruption {quote(spec)}: severity must be 1, 2, 3, 4 or 5; got {severity}")
    require(not options, "corruptions", "NAME or NAME:severity=S", spec)
    function = load_member("corruption", name, CORRUPTIONS)
    require(
        channels == 3 or name not in IN_COLOUR,
        "corruptions",
        "one that needs no colour, for images of one channel",
        name,
    )
    severities = SEVERITIES if severity is None else (int(severity),)
    return [Corruption(name, number, function, seed) for number in severities]
