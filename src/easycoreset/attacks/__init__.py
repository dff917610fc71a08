"""Attacks: (model, x, y, index) -> x_adv inside the eps ball and [0,1]. Each attack has one line in `ATTACKS`."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from easycoreset.errors import require
from easycoreset.members import accepted_keywords, load_member, spell_member, split_spec
from easycoreset.user_modules import is_user_spec

ATTACKS = {
    "fgsm": "easycoreset.attacks.fgsm:FGSM",
    "pgd": "easycoreset.attacks.pgd:PGD",
    "noise": "easycoreset.attacks.noise:Noise",
    "transfer": "easycoreset.attacks.transfer:Transfer",
    "square": "easycoreset.attacks.autoattack:Square",
    "apgd": "easycoreset.attacks.apgd:APGD",
    "autoattack": "easycoreset.attacks.autoattack:AutoAttack",
}
MARGINS = {  # minimal-norm attacks: (model, x, y, index) -> the nearest adversarial point found, or x if none is
    "fmn": "easycoreset.attacks.fmn:FMN",
    "ddn": "easycoreset.attacks.fmn:DDN",
    "deepfool": "easycoreset.attacks.deepfool:DeepFool",
}


class Attack(Protocol):
    """Searches the ball around `x` for images that the model misclassifies; it leaves the model unchanged.

    An attack may declare further attributes. `strength` is a tuple that says how strong it is expected to be, compared
    with other attacks: noise (0,), square (0, 1), transfer (0, 2), fgsm (1,), pgd (2, steps, restarts), apgd (3,),
    autoattack (4,). `gradient_steps` is the number of steps along the gradient. `reference` means that no longer attack
    is needed to check it. `climbs_in_bf16` means that it may get a model in bf16, and that it uses `climbing.Judge` to
    decide in float32 which samples are broken. `digest` is the digest of a file that it reads.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        """Attack one batch.

        Args:
            model: maps [B,C,H,W] in [0,1] to logits.
            x: [B,C,H,W] in [0,1].
            y: [B] int64, the true classes.
            index: [B] int64, the samples' indices, which key their random draws; None: 0..B-1.

        Returns:
            [B,C,H,W] inside the ball and [0,1].
        """
        ...


def load_attack(
    spec: str, *, surrogate: Path | None = None, factory: str | None = None, **options: Any
) -> tuple[str, Attack]:
    """Load the attack that `spec` names, with eps, norm and seed from `options`; `file:PATH` loads saved images.

    Args:
        spec: `NAME[:key=value]...` of `ATTACKS`, or `package.module:name`.
        surrogate: the other model of an attack that makes its images on one, if the spelling names none.
        factory: the user's `package.module:factory` of that model.
        options: eps, norm and seed.

    Returns:
        Its canonical spelling without `options`, and the attack.
    """
    if spec.startswith("file:"):
        from easycoreset.attacks.saved_images import SavedImages

        path = Path(spec[5:])
        return f"file:{path.name}", SavedImages(path, **options)
    base = load_member("attack", spec, ATTACKS)
    if hasattr(base, "from_"):
        options |= {"from_": surrogate} if base.from_ is None else {}
        options["factory"] = factory
    if is_user_spec(spec):
        is_options = dataclasses.is_dataclass(base)
        known = [item.name for item in dataclasses.fields(base)] if is_options else accepted_keywords(base)
        require("eps" in known, "attack", "a function (model, x, y, index, *, eps), or a dataclass with eps", spec)
        is_linf = options.get("norm") in (None, "linf")
        require(is_linf or "norm" in known, "norm", f"linf for {spec}, which takes no norm", options.get("norm"))
        options = {name: value for name, value in options.items() if name in known}
    return spell_member(split_spec(spec)[0], base), load_member("attack", spec, ATTACKS, **options)


def needs_surrogate(attack: Any) -> bool:
    """Whether an attack makes its images on another model (a field `from_`), and does not name it yet."""
    return hasattr(attack, "from_") and attack.from_ is None
