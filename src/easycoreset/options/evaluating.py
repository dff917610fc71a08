"""Options of `evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from easycoreset.errors import require
from easycoreset.options.fields import NEUTRAL, with_default
from easycoreset.options.groups import (
    DEFAULT_EPS,
    AttackOptions,
    ComputeOptions,
    InferenceOptions,
    NormalisationOptions,
    NormOptions,
    check_normalisation,
    check_radii,
)
from easycoreset.options.objects import MODEL, GivenPath, Named, Several, name_test_data, store_network

BEST_FOLDER = "best"  # in a training's folder: the model of its best epoch
RADII = {"linf": DEFAULT_EPS, "l2": (0.25, 0.5, 1.0)}  # default radii by norm


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(NormalisationOptions, InferenceOptions, AttackOptions, NormOptions, ComputeOptions):
    """Options of `evaluate`."""

    host_option = "weights"  # the evaluation may be written into this option's folder

    weights: GivenPath | None = None
    """Required: folder of a model written by `train` or `score`, or a state dict from elsewhere (with --model)."""
    checkpoint: Literal["last", "best"] = "last"
    """The epoch to evaluate: the last, or the best on the held-out samples of a training with --val-fraction."""
    model: Named | None = field(default=None, metadata=MODEL)
    """Model of a state dict; for a folder, only its package.module:factory, which is imported only if named here."""
    attack: Several[Named] = with_default(AttackOptions, "attack", ("pgd", "pgd:loss=margin"))
    eps: Several[float] = with_default(AttackOptions, "eps", ())
    """Radii, comma-separated; default: 1, 2, 4 and 8/255 for linf, 0.25, 0.5 and 1 for l2."""
    attack_precision: Literal["fp32", "bf16"] | None = None
    """Precision of the gradients of pgd and fgsm (success is judged in fp32); default: bf16 on a GPU that has it."""
    surrogate: GivenPath | None = field(default=None, metadata=NEUTRAL)
    """Folder of the model on which the attack `transfer` makes its images, where the attack names none (from=DIR)."""
    split: Literal["train", "val", "test"] = "test"
    """Split to evaluate on; val: the samples that the model's training held out (train --val-fraction)."""
    margins: Several[str] = field(default=(), metadata=NEUTRAL)
    """Also measure each sample's distance to the decision boundary: fmn (also the flag alone), ddn, deepfool."""
    corruptions: Several[Named] = field(default=(), metadata=NEUTRAL)
    """Also measure accuracy on corrupted images: all (also the flag alone), NAME[:severity=1..5] (see --list), or
    cifar10-c:DIR, the benchmark's arrays."""
    certify: Several[str] = field(default=(), metadata=NEUTRAL)
    """Also certify l2 radii by randomized smoothing: sigma=0.25[:n0=100:n=1000:alpha=0.001], for a model trained with
    objective noise:sigma=0.25."""
    checks: Literal["all", "quick"] = "all"
    """quick leaves out the checks that run further attacks (one without bounds, and a longer one)."""
    strict: bool = field(default=False, metadata=NEUTRAL)
    """Exit with code 1 if a check gives a warning."""
    save_adversarial: bool = field(default=False, metadata=NEUTRAL)
    """Also write the adversarial images."""

    def __post_init__(self) -> None:
        network = self.model if self.weights is None else self.weights
        if hasattr(network, "state_dict"):
            alone = self.weights is None or self.model is None
            require(alone, "model", "left out with a module as weights", self.model)
            require(self.checkpoint == "last", "checkpoint", "last with a module as weights", self.checkpoint)
            options = store_network(network)
            trained_on = options.pop("trained_on")
            if not isinstance(self.data, str | Path):
                options["data"] = name_test_data(self.data, trained_on, self.decisions)
            for name, value in options.items():
                object.__setattr__(self, name, value)
        if hasattr(self.surrogate, "state_dict"):
            object.__setattr__(self, "surrogate", store_network(self.surrogate)["weights"])
        require(self.weights is not None, "weights", "given (--weights)", None)
        super().__post_init__()
        check_normalisation(self)
        object.__setattr__(self, "eps", self.eps or RADII[self.norm])
        check_radii(self.eps, self.norm)

    @property
    def model_path(self) -> Path:
        """Where the model of the checkpoint lies."""
        return self.weights_path / BEST_FOLDER if self.checkpoint == "best" else self.weights_path

    @property
    def weights_path(self) -> Path:
        """The folder or the file of the weights."""
        assert self.weights is not None  # checked in __post_init__
        return self.weights
