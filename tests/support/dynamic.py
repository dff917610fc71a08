"""Users' dynamic methods, models and objectives, good and bad."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from easycoreset import Coreset
from easycoreset.dynamic import EpochChoice

ROWS = 128


def everything(state):
    return np.arange(ROWS)


def halves(state):
    """The first half of a batch, each row twice."""
    return np.repeat(np.arange(ROWS // 2), 2)


def first_half_twice(state):
    """A batch of which the first half weighs 2 and the second nothing."""
    return EpochChoice(np.arange(ROWS), np.repeat([2.0, 0.0], ROWS // 2).astype(np.float32))


def outside(state):
    return np.array([10**6])


def outside_later(state):
    return np.array([0, 1, 2]) if state.epoch == 1 else np.array([-1])


def none(state):
    return np.array([], np.int64)


def bad_weights(state):
    return np.arange(4), np.array([1.0, 1.0])


def static(scores, count, seed):
    """A selector, not a dynamic method."""
    return Coreset.from_order(np.arange(count), scores)


def raises(state):
    raise ValueError("a mistake of mine")


def own_attack(model, x, y, generator):
    """Cross-entropy after a step of the gradient's sign."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
    return F.cross_entropy(model((x + 0.1 * gradient.sign()).clamp(0, 1).detach()), y, reduction="none")


def plain():
    """A linear model, whose rows do not depend on each other."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def no_linear():
    """Logits that come out of a convolution."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())


def other_loss(model, x, y, generator):
    """An objective that says nothing of logits."""
    return F.cross_entropy(model(x), y, reduction="none")
