"""Options of `predict`."""

from dataclasses import dataclass, field

from easycoreset.errors import require
from easycoreset.options.groups import ComputeOptions, InferenceOptions
from easycoreset.options.objects import IMAGES, MODEL, TRAINED_MODEL, GivenPath, Named, store_network


@dataclass(frozen=True, kw_only=True)
class PredictOptions(InferenceOptions, ComputeOptions):
    """Options of `predict`."""

    data: Named = field(metadata=IMAGES)
    """A folder of images, with or without class folders, or an .npz with x; labels are ignored."""
    weights: GivenPath = field(metadata=TRAINED_MODEL)
    """Folder of a model written by `train` or `score`."""
    model: Named | None = field(default=None, metadata=MODEL)
    """package.module:factory of the model; it is imported only if named here again."""
    raw: bool = False
    """Leave names in labels.csv unchanged; without it, names that look like a formula get a leading '."""

    def __post_init__(self) -> None:
        if hasattr(self.weights, "state_dict"):
            require(self.model is None, "model", "left out with a module as weights", self.model)
            object.__setattr__(self, "model", store_network(self.weights).get("model"))
        super().__post_init__()
        require(self.weights.is_dir(), "weights", "a trained model's folder", str(self.weights))
