"""Wide residual networks (Zagoruyko & Komodakis 2016), as the robustness literature uses them on small images.

Layers are named as in the published robust checkpoints, so that these load.
"""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False)
        same = width_in == width_out and stride == 1
        self.convShortcut = None if same else nn.Conv2d(width_in, width_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(out)
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


def wide_resnet(depth: int, width: int, channels: int, classes: int) -> nn.Module:
    """Three groups of (depth - 4) / 6 blocks of 16, 32 and 64 times `width` channels, and a linear layer."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(channels, 16, 3, 1, 1, bias=False))
    width_in = 16
    for number, (group, stride) in enumerate(((16, 1), (32, 2), (64, 2)), 1):
        blocks = [WideBlock(width_in, group * width, stride)]
        width_in = group * width
        blocks += [WideBlock(width_in, width_in, 1) for _ in range((depth - 4) // 6 - 1)]
        layers[f"block{number}"] = nn.Sequential(OrderedDict(layer=nn.Sequential(*blocks)))
    layers |= {"bn1": nn.BatchNorm2d(width_in), "relu": nn.ReLU(), "pool": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(width_in, classes)}
    return nn.Sequential(layers)


def wrn_28_10(channels: int, classes: int) -> nn.Module:
    """WideResNet-28-10, 36.5 M parameters."""
    return wide_resnet(28, 10, channels, classes)


def wrn_34_10(channels: int, classes: int) -> nn.Module:
    """WideResNet-34-10, 46.2 M parameters."""
    return wide_resnet(34, 10, channels, classes)
