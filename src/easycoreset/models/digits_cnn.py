"""A small CNN for 8x8 digits: about 0.27 M multiply-adds."""

from torch import nn


def digits_cnn(channels: int, classes: int) -> nn.Module:
    """Three convolutions of 16, 32 and 40 channels with batch norm, and a linear layer; any image size."""
    layers: list[nn.Module] = []
    for width_in, width_out, stride in ((channels, 16, 1), (16, 32, 2), (32, 40, 1)):
        layers += [nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(160, classes))
