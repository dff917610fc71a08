"""Ways in which an evaluation is fooled, each looked for and named with its figure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from easycoreset.attacks.pgd import PGD
from easycoreset.console import say_eps
from easycoreset.data import Split
from easycoreset.data.contents import find_trained_on
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.hardness.exact import look
from easycoreset.members import split_spec
from easycoreset.models.modes import device_of, frozen, passes_gradient

SAMPLES = 256  # looked at by the checks of a model's behaviour
LOOKED_AT = 128  # survivors that a longer attack tries
LONGER = "longer_attack"


@dataclass(frozen=True)
class Check:
    """One check: its figure, whether it passed, and what a failure means and asks for."""

    name: str
    figure: float
    passed: bool
    message: str


def check_model_behaviour(
    model: nn.Module, split: Split, rows: np.ndarray, correct: np.ndarray, norm: str, seed: int
) -> list[Check]:
    """Check inputs, logits, gradients, batch invariance, randomness, and that a huge eps breaks everything."""
    device = device_of(model)
    batch = next(split.batches(_some(rows, seed), SAMPLES, device))
    with frozen(model):
        outputs = look(model, batch.x, batch.y, gradient=True)
        with torch.no_grad():
            again = model(batch.x)
            single = one_by_one(model, batch.x[:32], logits_like=again)
    assert outputs.gradient is not None
    logits = outputs.logits
    gradient = outputs.gradient
    open_ = passes_gradient(model, batch.x)
    inside = bool(((batch.x >= 0) & (batch.x <= 1)).all())
    differs = (logits[: len(single)].argmax(1) != single.argmax(1)) | ~torch.isfinite(single).all(1)
    changed = float(differs.float().mean())
    spread = float((logits - again).abs().max() / logits.abs().max().clamp_min(1e-12))
    checks = [
        Check("inputs_in_range", float(not inside), inside, "inputs leave [0, 1]"),
        _finite("finite_logits", logits, "logits are not finite"),
        _finite("finite_gradients", gradient, "input gradients are not finite: attacks see noise"),
        Check(
            "batch_invariance",
            changed,
            changed == 0,
            f"{changed:.1%} of predictions differ at batch size 1: the samples of a batch influence each other",
        ),
        Check(
            "deterministic",
            spread,
            spread < 1e-4,
            f"two forward passes differ by {spread:.2g} of the largest logit: attack a randomised defence's average",
        ),
        _logits_not_probabilities(logits),
        Check(
            "input_gradient",
            float(not open_),
            open_,
            "no gradient comes from the model's logits to its input (detach, no_grad, or a threshold inside it?): "
            "attacks that follow gradients show nothing; read square's figure",
        ),
    ]
    if len(correct):
        checks += [_zero_gradient(model, split, correct, seed, device)] if open_ else []
        checks.append(_large_eps(model, split, correct, norm, seed, device))
    return checks


def one_by_one(model: nn.Module, x: Tensor, logits_like: Tensor) -> Tensor:
    """Logits at batch size 1; not finite where the model does not run on a single sample at all."""
    try:
        return torch.cat([model(x[row : row + 1]) for row in range(len(x))])
    except (RuntimeError, ValueError):  # batch statistics, of one sample, are what it wants
        return torch.full_like(logits_like[: len(x)], float("nan"))


def check_above_chance(clean: Outcome, labels: np.ndarray) -> Check:
    """A model that does no better than always naming the largest class shows nothing under attack."""
    counts = np.bincount(labels[clean.index])
    share = float(counts.max() / counts.sum())
    message = (
        f"clean accuracy {clean.accuracy:.1%} is that of always naming the largest class ({share:.1%}): is it trained, "
        "and does it take images in [0, 1]? --input-mean and --input-std say what a foreign model wants"
    )
    return Check("above_chance", clean.accuracy, clean.accuracy > share, message)


def check_trained_on(trained: dict[str, Any] | None, split: Split, rows: np.ndarray) -> list[Check]:
    """Samples that the model was trained on show nothing; an evaluation on its very training split is meant so."""
    if trained is None or (split.name, split.fingerprint) == (trained["split"], trained["fingerprint"]):
        return []
    known = find_trained_on(split, rows, trained)
    count = 0 if known is None else int(known.sum())
    message = (
        f"the model was trained on {count} of the {len(rows)} samples: exact copies of them were in its training data"
    )
    return [Check("trained_on", float(count), count == 0, message)]


def strength(attack: str) -> tuple[int, ...]:
    """How strong an attack should be: noise, square, fgsm, pgd by its steps and restarts, autoattack; () if unknown.

    >>> strength("noise") < strength("fgsm") < strength("pgd:steps=10") < strength("pgd")
    True
    """
    name, options = split_spec(attack)
    if name == "pgd":
        return 2, int(options.get("steps", PGD.steps)), int(options.get("restarts", PGD.restarts))
    return {"noise": (0,), "square": (0, 1), "fgsm": (1,), "apgd": (3,), "autoattack": (4,)}.get(name, ())


def check_order(attacked: Sequence[Outcome]) -> list[Check]:
    """A weaker attack should not break more than a stronger one, a black-box attack not more than a white-box one.

    The order is no theorem: a warning needs more than one point and two paired standard errors.
    """
    checks: list[Check] = []
    for weak in attacked:
        for strong in attacked:
            if weak.eps != strong.eps or not () < strength(weak.attack) < strength(strong.attack):
                continue
            if weak.attack.startswith("square") and strong.attack.startswith("fgsm"):
                continue  # thousands of queries may well find more than one step
            difference = weak.broken.astype(float) - strong.broken.astype(float)
            excess = float(difference.mean())
            error = float(difference.std() / np.sqrt(len(difference)))
            checks.append(
                Check(
                    f"order:{weak.attack}<{strong.attack}@{weak.eps:.4g}",
                    excess,
                    excess <= max(0.01, 2 * error),
                    f"{weak.attack} breaks {excess:.1%} more than {strong.attack} at eps {weak.eps:.4g}: gradients are "
                    "masked; try more steps and restarts, loss=margin, or a black-box attack",
                )
            )
    return checks


def check_longer_attack(
    model: nn.Module, split: Split, clean: Outcome, attacked: Sequence[Outcome], worst: Sequence[Outcome], seed: int
) -> list[Check]:
    """An attack five times as long should break little that every attack left.

    It is PGD by the margin loss with small steps, from other starts, on some survivors of the radius where robust
    accuracy is farthest from both 0 and clean accuracy. Only where gradient attacks were run, and neither APGD nor
    AutoAttack. A warning needs two standard errors more than one point.
    """
    count = longer_steps(outcome.attack for outcome in attacked)
    if not count:
        return []
    standing = [outcome for outcome in worst if outcome.eps > 0 and not outcome.broken.all()]
    if not standing:
        return [Check(LONGER, 0.0, True, "nothing survives")]
    at = max(standing, key=lambda outcome: (min(outcome.accuracy, clean.accuracy - outcome.accuracy), outcome.eps))
    rows = _some(at.index[~at.broken], seed, LOOKED_AT)
    batch = next(split.batches(rows, LOOKED_AT, device_of(model)))
    norm = next(outcome.norm for outcome in attacked)
    longer = PGD(eps=at.eps, norm=norm, loss="margin", steps=count, step_size=2.5 * at.eps / count, seed=seed + 1)  # pyright: ignore[reportArgumentType]
    with frozen(model):
        adv = longer(model, batch.x, batch.y, batch.index)
        with torch.no_grad():
            fallen = int((model(adv).argmax(1) != batch.y).sum())
    share = fallen / len(rows)
    too_high = at.accuracy * share
    error = at.accuracy * (share * (1 - share) / len(rows)) ** 0.5
    return [
        Check(
            LONGER,
            too_high,
            too_high - 2 * error <= 0.01,
            f"an attack five times as long ({count} steps, margin loss) breaks {fallen} of {len(rows)} survivors "
            f"at eps {say_eps(at.eps)}: "
            f"accuracy there is some {100 * too_high:.1f} points too high; try autoattack",
        )
    ]


def longer_steps(attacks: Iterable[str]) -> int:
    """Five times the gradient steps of the longest; 0 where there are none, or APGD or AutoAttack as published.

    >>> longer_steps(["fgsm", "pgd:steps=10:restarts=2"]), longer_steps(["noise"]), longer_steps(["pgd", "autoattack"])
    (100, 0, 0)
    """
    longest = 0
    for name, options in map(split_spec, attacks):
        if name in ("apgd", "autoattack") and not options:
            return 0
        steps = int(options.get("steps", PGD.steps)) * int(options.get("restarts", PGD.restarts))
        longest = max(longest, {"fgsm": 1, "pgd": steps}.get(name, 0))
    return 5 * longest


def _some(rows: np.ndarray, seed: int, count: int = SAMPLES) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def _finite(name: str, values: Tensor, message: str) -> Check:
    share = float((~torch.isfinite(values)).float().mean())
    return Check(name, share, share == 0, f"{share:.1%} of {message}")


def _logits_not_probabilities(logits: Tensor) -> Check:
    within = bool((logits >= 0).all() and (logits <= 1).all())  # so are those of a network that learnt little
    whole = bool(((logits.sum(1) - 1).abs() < 1e-3).all())  # a softmax's
    looks = within and (whole or bool((logits.amax(1) > 0.9).float().mean() > 0.5))
    message = (
        "the outputs all lie in [0, 1], as probabilities do: cross-entropy needs logits; remove the model's softmax or "
        "sigmoid"
    )
    return Check("logits_not_probabilities", float(looks), not looks, message)


def _zero_gradient(model: nn.Module, split: Split, correct: np.ndarray, seed: int, device: torch.device) -> Check:
    batch = next(split.batches(_some(correct, seed), SAMPLES, device))
    with frozen(model):
        gradient = look(model, batch.x, batch.y, gradient=True).gradient
    assert gradient is not None
    share = float((gradient.flatten(1).abs().amax(1) == 0).float().mean())
    message = (
        f"{share:.1%} of the correct samples have no cross-entropy gradient at all (over-confident logits): attacks by "
        "cross-entropy report robustness that is not there; read the margin-loss figure"
    )
    return Check("zero_gradient", share, share <= 0.05, message)


def _large_eps(
    model: nn.Module, split: Split, correct: np.ndarray, norm: str, seed: int, device: torch.device
) -> Check:
    """At an eps that spans [0,1] every sample should fall."""
    batch = next(split.batches(_some(correct, seed)[:128], 128, device))
    eps = 1.0 if norm == "linf" else float(np.sqrt(batch.x[0].numel()))
    x = batch.x
    y = batch.y
    standing = torch.ones(len(y), dtype=torch.bool, device=device)
    for loss in ("margin", "ce"):
        attack = PGD(eps=eps, norm=norm, loss=loss, steps=20, seed=seed)  # pyright: ignore[reportArgumentType]
        with frozen(model):
            adv = attack(model, x, y, batch.index)
            with torch.no_grad():
                standing &= model(adv).argmax(1) == y
    share = float(standing.float().mean())
    message = (
        f"{share:.1%} of {len(y)} samples survive an attack without bounds (eps {eps:.4g}): its gradients lead nowhere"
    )
    return Check("large_eps", share, share <= 0.01, message)
