"""Random crop and flip of a whole batch beside torchvision's transforms of one image after the other."""

import torch
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip

from benchmarks.timing import ratio
from easycoreset.data.augment import PADDING, augment


def run() -> list[dict]:
    """A batch of 128 images of CIFAR's size, as tensors of bytes on both sides."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (128, 32, 32, 3), dtype=torch.uint8, generator=generator)
    separate_images = list(images.permute(0, 3, 1, 2).contiguous())
    transform = Compose([RandomCrop(32, padding=PADDING), RandomHorizontalFlip()])

    def ours() -> torch.Tensor:
        return augment(images, "crop-flip", generator)

    def theirs() -> torch.Tensor:
        return torch.stack([transform(image) for image in separate_images])

    what = "crop and flip of a batch of 128 / torchvision's, picture by picture"
    return [ratio(what, 0.5, ours, theirs, repeats=51)]
