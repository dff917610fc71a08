"""ResNet-18 with the stem that papers use on small images (3x3, stride 1, no pooling)."""

from torch import nn

from easycoreset.models.blocks import BasicBlock


def resnet18(channels: int, classes: int) -> nn.Module:
    """Two blocks each of 64, 128, 256 and 512 channels (He et al. 2016), about 0.56 G multiply-adds at 32x32."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    width_in = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(width_in, width, stride), BasicBlock(width, width, 1)]
        width_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
