"""Attacks: (model, x, y, index) -> x_adv inside the ball and [0,1]. One attack a file, one line of `ATTACKS` each."""

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from easycoreset.members import load_member, spell_member, split_spec

ATTACKS = {
    "fgsm": "easycoreset.attacks.fgsm:FGSM",
    "pgd": "easycoreset.attacks.pgd:PGD",
    "noise": "easycoreset.attacks.noise:Noise",
    "square": "easycoreset.attacks.autoattack:Square",
    "apgd": "easycoreset.attacks.apgd:APGD",
    "autoattack": "easycoreset.attacks.autoattack:AutoAttack",
}
MARGINS = {  # minimal-norm attacks: (model, x, y, index) -> the nearest adversarial point found, x where there is none
    "fmn": "easycoreset.attacks.fmn:FMN",
    "ddn": "easycoreset.attacks.fmn:DDN",
    "deepfool": "easycoreset.attacks.deepfool:DeepFool",
}


class Attack(Protocol):
    """Looks for images in the ball around `x` that the model gets wrong; it leaves the model as it was."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, index: Tensor | None = None) -> Tensor:
        """Attack.

        Args:
            model: maps [B,C,H,W] in [0,1] to logits.
            x: [B,C,H,W] in [0,1].
            y: [B] int64, the true classes.
            index: [B] int64, keys of the samples' random draws; left out: 0..B-1.

        Returns:
            [B,C,H,W] in the ball and in [0,1].
        """
        ...


def load_attack(spec: str, **options: Any) -> tuple[str, Attack]:
    """Load the attack that `spec` spells, with eps, norm and seed from elsewhere; `file:PATH` are saved images.

    Returns:
        Its one spelling without those, and the attack.
    """
    if spec.startswith("file:"):
        from easycoreset.attacks.saved import Saved

        path = Path(spec[5:])
        return f"file:{path.name}", Saved(path, **options)
    own = load_member("attack", spec, ATTACKS)
    return spell_member(split_spec(spec)[0], own), load_member("attack", spec, ATTACKS, **options)
