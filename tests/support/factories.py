"""Models and selectors as users bring them: `package.module:name`."""

import numpy as np
import torch
from torch import nn

from easycoreset import Coreset
from easycoreset.models import build_network
from easycoreset.models.card import ModelCard
from easycoreset.models.normalize import Normalize


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def wrong_shape():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


class NaNs(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 10), float("nan"))


def not_finite():
    return NaNs()


def needs_an_argument(classes):
    return nn.Linear(1, classes)


def only_eval():
    class OnlyEval(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            out = self.linear(x.flatten(1))
            return (out, out) if self.training else out

    return OnlyEval()


def not_a_model():
    return 3


def with_dropout():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))


class Exploding(nn.Module):
    """Finite at first, not finite after the first update."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        grown = self.training and bool(self.linear.bias.detach().abs().sum() > 1)
        return self.linear(x.flatten(1)) * (float("inf") if grown else 1.0)


def exploding():
    return Exploding()


def first_rows(scores, count, seed):
    return Coreset.from_order(np.arange(count), scores)


def too_few(scores, count, seed):
    return Coreset.from_order(np.arange(count - 1), scores)


def convolutional_head():
    """Logits from a convolution and a mean: there is no last linear layer."""
    head = nn.Conv2d(8, 10, 1)
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(body, head, nn.Flatten())


def without_bias():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10, bias=False))


class Huge(nn.Module):
    """Features beyond float16."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1) * 1e5)


def huge_features():
    return Huge()


class KeywordHead(nn.Module):
    """Calls its head by keyword."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(input=x.flatten(1))


def keyword_head():
    return KeywordHead()


class ChunkedHead(nn.Module):
    """Runs its head on one image at a time."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return torch.cat([self.head(one[None]) for one in x.flatten(1)])


def chunked_head():
    return ChunkedHead()


def by_features(scores, count, seed):
    return Coreset.from_order(np.argsort(-np.asarray(scores.features[:, 0], float), kind="stable")[:count], scores)


by_features.needs = ("features",)


def of_bytes():
    """The digits network behind a normalisation of its own."""
    network = build_network(
        ModelCard(model="digits-cnn", shape=(1, 8, 8), mean=(0.0,), std=(1.0,), class_names=tuple("0123456789"))
    )
    return nn.Sequential(Normalize((0.0,), (1.0,)), network)


class Mystery:
    """A selector that goes by a column which nobody makes."""

    needs = "mystery"

    def __call__(self, scores, count, seed):
        raise AssertionError


class Bright(nn.Module):
    """Gives NaN for very bright images: none of the first 300 digits is, some later ones are."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x.flatten(1)).masked_fill((x.sum((1, 2, 3)) > 25.33)[:, None], float("nan"))


def nan_for_bright_images():
    return Bright()


def fails(scores, count, seed):
    """A selector that raises."""
    raise ValueError("it does not work")
