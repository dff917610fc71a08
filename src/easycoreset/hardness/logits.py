"""Hardness from logits: loss, EL2N, forgetting, AUM, uncertainty and the confidence of the last epoch."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from easycoreset.hardness import ForwardHardness, Outputs
from easycoreset.hardness.folds import ForgettingEvents, Last, Mean, WindowedDeviation


def cross_entropy(outputs: Outputs) -> Tensor:
    """Cross-entropy of the true class."""
    return -_at_label(outputs.log_p, outputs.y)


def error_norm(outputs: Outputs) -> Tensor:
    """L2 norm of p - 1_y."""
    return torch.linalg.vector_norm(outputs.p - F.one_hot(outputs.y, outputs.p.shape[1]), dim=1)


def negative_margin(outputs: Outputs) -> Tensor:
    """max_{k != y} z_k - z_y."""
    others = outputs.logits.scatter(1, outputs.y[:, None], float("-inf"))
    return others.amax(1) - _at_label(outputs.logits, outputs.y)


def correct(outputs: Outputs) -> Tensor:
    """1 if the predicted class (the lowest one on ties) is correct, else 0; NaN if the logits are not finite."""
    is_correct = (outputs.logits.argmax(1) == outputs.y).to(outputs.logits.dtype)
    return is_correct.masked_fill(~torch.isfinite(outputs.logits).all(1), float("nan"))


def p_y(outputs: Outputs) -> Tensor:
    """Probability of the true class."""
    return _at_label(outputs.p, outputs.y)


def entropy(outputs: Outputs) -> Tensor:
    """Entropy of p in nats."""
    return -(outputs.p * outputs.log_p.clamp_min(torch.finfo(outputs.p.dtype).min)).sum(1)


def least_confidence(outputs: Outputs) -> Tensor:
    """1 - max p."""
    return 1 - outputs.p.amax(1)


def prob_gap(outputs: Outputs) -> Tensor:
    """Minus the gap between the two highest probabilities."""
    top = outputs.p.topk(2, dim=1).values
    return top[:, 1] - top[:, 0]


def _at_label(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(1, y[:, None]).squeeze(1)


LOSS = ForwardHardness("loss", "loss", cross_entropy, Mean, "Mean cross-entropy over epochs.")
EL2N = ForwardHardness(
    "el2n",
    "el2n",
    error_norm,
    partial(Mean, limit=10),
    "Mean norm of p - 1_y over the first 10 epochs (Paul et al. 2021).",
)
FORGETTING = ForwardHardness(
    "forgetting",
    "correct",
    correct,
    ForgettingEvents,
    "Number of times forgotten; for a sample never learned, all epochs (Toneva et al. 2019).",
    counts_events=True,
)
AUM = ForwardHardness("aum", "aum", negative_margin, Mean, "Minus the mean logit margin (Pleiss et al. 2020).")
UNCERTAINTY = ForwardHardness(
    "uncertainty", "p_y", p_y, WindowedDeviation, "Deviation of p_y in windows of 10 epochs (He et al. 2023)."
)
ENTROPY = ForwardHardness("entropy", "entropy", entropy, Last, "Entropy of the last epoch's p, in nats.")
LEAST_CONFIDENCE = ForwardHardness(
    "least_confidence", "least_confidence", least_confidence, Last, "1 - max p of the last epoch."
)
PROB_GAP = ForwardHardness(
    "prob_gap", "prob_gap", prob_gap, Last, "Minus the gap between the last epoch's two highest probabilities."
)
