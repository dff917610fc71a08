"""Checks for the ways in which an evaluation can mislead, each with a measured value."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.attack_order import find_excess, is_weaker
from easycoreset.attacks import load_attack
from easycoreset.attacks.pgd import PGD
from easycoreset.console import format_eps
from easycoreset.data import Split
from easycoreset.data.content_hashes import find_training_samples
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.hardness.exact import forward_with_gradient
from easycoreset.models.modes import device_of, frozen, has_input_gradient

BEHAVIOUR_SAMPLES = 256  # on which a model's behaviour is checked
LONGER_ATTACK_SAMPLES = 128  # survivors that the longer attack attacks
LONGER_ATTACK = "longer_attack"


@dataclass(frozen=True)
class Check:
    """One check: its measured value, whether it passed, and what a failure means and what to do."""

    name: str
    figure: float
    passed: bool
    message: str


def check_model_behaviour(
    model: nn.Module, split: Split, rows: np.ndarray, correct: np.ndarray, seed: int
) -> list[Check]:
    """Check inputs, logits, gradients, batch invariance and randomness.

    `rows` are the rows of the evaluated samples in the split, `correct` those classified correctly without an attack.
    """
    device = device_of(model)
    batch = next(split.batches(_draw_rows(rows, seed), BEHAVIOUR_SAMPLES, device))
    with frozen(model):
        outputs = forward_with_gradient(model, batch.x, batch.y, gradient="loss")
        with torch.no_grad():
            second_logits = model(batch.x)
            single_logits = logits_one_by_one(model, batch.x[:32], logits_like=second_logits)
    assert outputs.gradient is not None
    logits = outputs.logits
    gradient = outputs.gradient
    has_gradient = has_input_gradient(model, batch.x)
    in_range = bool(((batch.x >= 0) & (batch.x <= 1)).all())
    differing = (logits[: len(single_logits)].argmax(1) != single_logits.argmax(1)) | ~torch.isfinite(
        single_logits
    ).all(1)
    differing_share = float(differing.float().mean())
    deviation = float((logits - second_logits).abs().max() / logits.abs().max().clamp_min(1e-12))
    checks = [
        Check("inputs_in_range", float(not in_range), in_range, "inputs leave [0, 1]"),
        _finite("finite_logits", logits, "logits are not finite"),
        _finite("finite_gradients", gradient, "input gradients are not finite: attacks see noise"),
        Check(
            "batch_invariance",
            differing_share,
            differing_share == 0,
            f"{differing_share:.1%} of predictions differ at batch size 1: the samples of a batch influence each other",
        ),
        Check(
            "deterministic",
            deviation,
            deviation < 1e-4,
            f"two forward passes differ by {deviation:.2g} of the largest logit: if the model is random on purpose, "
            "attack its average",
        ),
        _logits_not_probabilities(logits),
        Check(
            "input_gradient",
            float(not has_gradient),
            has_gradient,
            "no gradient of the model's logits reaches its input (detach, no_grad, or a threshold inside it?): "
            "gradient-based attacks show nothing; use the accuracy under the square attack",
        ),
    ]
    if len(correct) and has_gradient:
        checks.append(_zero_gradient(model, split, correct, seed, device))
    return checks


def logits_one_by_one(model: nn.Module, x: Tensor, logits_like: Tensor) -> Tensor:
    """Logits at batch size 1; NaN if the model cannot run on a single sample."""
    try:
        return torch.cat([model(x[row : row + 1]) for row in range(len(x))])
    except (RuntimeError, ValueError):  # the model needs the statistics of a batch
        return torch.full_like(logits_like[: len(x)], float("nan"))


def check_above_chance(clean: Outcome, labels: np.ndarray) -> Check:
    """Check that clean accuracy is above the share of the largest class; otherwise the attacks show nothing."""
    counts = np.bincount(labels[clean.index])
    share = float(counts.max() / counts.sum())
    message = (
        f"clean accuracy {clean.accuracy:.1%} is no better than always predicting the largest class ({share:.1%}): "
        "check that the model is trained and takes images in [0, 1] (--input-mean and --input-std give the "
        "normalisation of a foreign model)"
    )
    return Check("above_chance", clean.accuracy, clean.accuracy > share, message)


def check_trained_on(trained_on: dict[str, Any] | None, split: Split, rows: np.ndarray) -> list[Check]:
    """Evaluation samples should not be training samples, unless the split is the training split itself."""
    if trained_on is None or (split.name, split.fingerprint) == (trained_on["split"], trained_on["fingerprint"]):
        return []
    seen = find_training_samples(split, rows, trained_on)
    count = 0 if seen is None else int(seen.sum())
    message = (
        f"the model was trained on {count} of the {len(rows)} samples: exact copies of them were in its training data"
    )
    return [Check("trained_on", float(count), count == 0, message)]


def expected_strength(attack: str) -> tuple[int, ...]:
    """How strong an attack is expected to be, as a tuple that can be compared; () if it does not say.

    >>> expected_strength("noise") < expected_strength("fgsm") < expected_strength("pgd:steps=10")
    True
    """
    return getattr(_member(attack), "strength", ())


def _member(attack: str) -> Any:
    """The attack of this spelling; None for saved images."""
    return None if attack.startswith("file:") else load_attack(attack)[1]


def check_order(attacked: Sequence[Outcome]) -> list[Check]:
    """A weaker attack should not break more than a stronger one, nor a black-box attack more than a white-box one."""
    checks: list[Check] = []
    for weak in attacked:
        for strong in attacked:
            strengths = expected_strength(weak.attack), expected_strength(strong.attack)
            if weak.eps != strong.eps or not is_weaker(*strengths):
                continue
            found = find_excess(weak.attack, strong.attack, weak.eps, weak.broken, strong.broken)
            checks.append(Check(f"order:{weak.attack}<{strong.attack}@{weak.eps:.4g}", *found))
    return checks


def check_longer_attack(
    model: nn.Module, split: Split, clean: Outcome, attacked: Sequence[Outcome], worst: Sequence[Outcome], seed: int
) -> list[Check]:
    """An attack five times as long should break few samples that survived every attack.

    It is PGD by the margin loss with small steps, from other starts, on some survivors at the eps where robust
    accuracy is farthest from both 0 and clean accuracy. It runs only after gradient attacks, and not after APGD or
    AutoAttack. A warning needs more than one point plus two standard errors.
    """
    steps = longer_attack_steps(outcome.attack for outcome in attacked)
    if not steps:
        return []
    with_survivors = [outcome for outcome in worst if outcome.eps > 0 and not outcome.broken.all()]
    if not with_survivors:
        return [Check(LONGER_ATTACK, 0.0, True, "nothing survives")]
    base = max(
        with_survivors, key=lambda outcome: (min(outcome.accuracy, clean.accuracy - outcome.accuracy), outcome.eps)
    )
    rows = _draw_rows(base.index[~base.broken], seed, LONGER_ATTACK_SAMPLES)
    batch = next(split.batches(rows, LONGER_ATTACK_SAMPLES, device_of(model)))
    norm = next(outcome.norm for outcome in attacked)
    longer = PGD(eps=base.eps, norm=norm, loss="margin", steps=steps, step_size=2.5 * base.eps / steps, seed=seed + 1)  # pyright: ignore[reportArgumentType]
    with frozen(model):
        adv = longer(model, batch.x, batch.y, batch.index)
        with torch.no_grad():
            newly_broken = int((model(adv).argmax(1) != batch.y).sum())
    share = newly_broken / len(rows)
    excess = base.accuracy * share
    error = base.accuracy * (share * (1 - share) / len(rows)) ** 0.5
    return [
        Check(
            LONGER_ATTACK,
            excess,
            excess - 2 * error <= 0.01,
            f"an attack five times as long ({steps} steps, margin loss) breaks {newly_broken} of {len(rows)} survivors "
            f"at eps {format_eps(base.eps)}: "
            f"accuracy there is some {100 * excess:.1f} points too high; try autoattack",
        )
    ]


def longer_attack_steps(attacks: Iterable[str]) -> int:
    """Five times the gradient steps of the longest attack; 0 without any, or with a reference among them.

    >>> longer_attack_steps(["fgsm", "pgd:steps=10:restarts=2"]), longer_attack_steps(["pgd", "autoattack"])
    (100, 0)
    """
    named = list(attacks)
    if any(getattr(_member(attack), "reference", False) for attack in named):
        return 0
    return 5 * max((_steps(attack) for attack in named), default=0)


def _steps(attack: str) -> int:
    return getattr(_member(attack), "gradient_steps", 0)


def _draw_rows(rows: np.ndarray, seed: int, count: int = BEHAVIOUR_SAMPLES) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def _finite(name: str, values: Tensor, message: str) -> Check:
    share = float((~torch.isfinite(values)).float().mean())
    return Check(name, share, share == 0, f"{share:.1%} of {message}")


def _logits_not_probabilities(logits: Tensor) -> Check:
    in_range = bool((logits >= 0).all() and (logits <= 1).all())  # also true of logits of a barely trained network
    sums_to_one = bool(((logits.sum(1) - 1).abs() < 1e-3).all())  # as the outputs of a softmax do
    like_probabilities = in_range and (sums_to_one or bool((logits.amax(1) > 0.9).float().mean() > 0.5))
    message = (
        "the outputs all lie in [0, 1], as probabilities do: cross-entropy needs logits; remove the model's softmax or "
        "sigmoid"
    )
    return Check("logits_not_probabilities", float(like_probabilities), not like_probabilities, message)


def _zero_gradient(model: nn.Module, split: Split, correct: np.ndarray, seed: int, device: torch.device) -> Check:
    batch = next(split.batches(_draw_rows(correct, seed), BEHAVIOUR_SAMPLES, device))
    with frozen(model):
        gradient = forward_with_gradient(model, batch.x, batch.y, gradient="loss").gradient
    assert gradient is not None
    share = float((gradient.flatten(1).abs().amax(1) == 0).float().mean())
    message = (
        f"{share:.1%} of the correct samples have no cross-entropy gradient at all (over-confident logits): attacks by "
        "cross-entropy report robustness that is not there; use the accuracy under the margin loss"
    )
    return Check("zero_gradient", share, share <= 0.05, message)


def check_large_eps(model: nn.Module, split: Split, correct: np.ndarray, norm: str, seed: int) -> list[Check]:
    """At an eps that spans [0,1] every sample should be broken."""
    if not len(correct):
        return []
    device = device_of(model)
    batch = next(split.batches(_draw_rows(correct, seed)[:128], 128, device))
    eps = 1.0 if norm == "linf" else float(np.sqrt(batch.x[0].numel()))
    x = batch.x
    y = batch.y
    robust = torch.ones(len(y), dtype=torch.bool, device=device)
    for loss in ("margin", "ce"):
        attack = PGD(eps=eps, norm=norm, loss=loss, steps=20, seed=seed)  # pyright: ignore[reportArgumentType]
        with frozen(model):
            adv = attack(model, x, y, batch.index)
            with torch.no_grad():
                robust &= model(adv).argmax(1) == y
    share = float(robust.float().mean())
    message = (
        f"{share:.1%} of {len(y)} samples survive an attack without bounds (eps {eps:.4g}): the gradients do not guide "
        "the attack"
    )
    return [Check("large_eps", share, share <= 0.01, message)]
