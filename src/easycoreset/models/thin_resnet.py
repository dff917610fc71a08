"""A residual network that CPUs can train: about 7 M multiply-adds at 32x32."""

from torch import nn

from easycoreset.models.blocks import BasicBlock


def thin_resnet(channels: int, classes: int) -> nn.Module:
    """A stride-2 stem of 24 channels, one residual block each of 24, 48 and 96 channels, and a linear layer."""
    stem = [nn.Conv2d(channels, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
    blocks = [BasicBlock(24, 24, 1), BasicBlock(24, 48, 2), BasicBlock(48, 96, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))
