"""Options of `predict`."""

from dataclasses import dataclass, field
from pathlib import Path

from easycoreset.errors import require
from easycoreset.options.groups import ComputeOptions, InferenceOptions
from easycoreset.options.objects import IMAGES, MODEL, TRAINED_MODEL, GivenPath, Named, store_network
from easycoreset.plan_folders import COMPARISON, RUN_MODELS
from easycoreset.records import read_record


@dataclass(frozen=True, kw_only=True)
class PredictOptions(InferenceOptions, ComputeOptions):
    """Options of `predict`."""

    data: Named = field(metadata=IMAGES)
    """A folder of images, with or without class folders, or an .npz with x; labels are ignored."""
    weights: GivenPath | None = field(default=None, metadata=TRAINED_MODEL)
    """Required: the folder of a model by `train` or `score`, or of `run` (its model for ordinary images is used)."""
    calibrated: bool = True
    """Divide logits by the temperature that was fitted on held-out images by `train --val-fraction`, `evaluate` or
    `run`; --no-calibrated takes them as they are."""
    model: Named | None = field(default=None, metadata=MODEL)
    """package.module:factory of the model; it is imported only if named here again."""
    raw: bool = False
    """Leave names in labels.csv unchanged; without it, names that look like a formula get a leading '."""

    def __post_init__(self) -> None:
        network = self.model if self.weights is None else self.weights
        if hasattr(network, "state_dict"):
            alone = self.weights is None or self.model is None
            require(alone, "model", "left out with a module as weights", self.model)
            options = store_network(network)
            object.__setattr__(self, "model", options.get("model"))
            object.__setattr__(self, "weights", options["weights"] if options["weights"].is_dir() else network)
        super().__post_init__()
        require(self.decisions is None, "decisions", "left out: images that are predicted have no labels", "a file")
        require(self.weights is not None, "weights", "given (--weights)", None)
        if self.weights is not None and (self.weights / COMPARISON).is_file():
            recommended = read_record(self.weights / COMPARISON).get("recommended", {"clean": "all"})
            object.__setattr__(self, "weights", self.weights / RUN_MODELS[recommended["clean"]])
        require(self.model_path.is_dir(), "weights", "a trained model's folder", str(self.weights))

    @property
    def model_path(self) -> Path:
        """The folder of the model."""
        assert self.weights is not None  # checked in __post_init__
        return self.weights
