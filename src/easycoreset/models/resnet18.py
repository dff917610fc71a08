"""ResNet-18 with the stem that papers use for small images (3x3, stride 1, no pooling).

Layers are named as in the published checkpoints of this network, so that these load.
"""

from collections import OrderedDict

from torch import nn

from easycoreset.models.blocks import BasicBlock


def resnet18(channels: int, classes: int) -> nn.Module:
    """Two blocks each of 64, 128, 256 and 512 channels (He et al. 2016), about 0.56 G multiply-adds at 32x32."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(channels, 64, 3, 1, 1, bias=False))
    layers |= {"bn1": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    width_in = 64
    for number, (width, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), 1):
        layers[f"layer{number}"] = nn.Sequential(BasicBlock(width_in, width, stride), BasicBlock(width, width, 1))
        width_in = width
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(512, classes)}
    return nn.Sequential(layers)
