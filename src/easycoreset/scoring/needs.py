"""The columns and features that a coreset method needs from a scoring run."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from easycoreset.errors import UsageError, quote, suggest_name
from easycoreset.hardness import HARDNESS, load_hardness
from easycoreset.hardness.gradient import spec_of_column
from easycoreset.members import split_spec
from easycoreset.models.last_layer import find_last_layer
from easycoreset.selection import Selector, required_inputs
from easycoreset.tables.scores import ARRAYS

FeatureKind = Literal["clean", "adversarial"]


class MethodInputs(NamedTuple):
    """The inputs of a method, grouped by how a scoring run provides them.

    Attributes:
        hardness: columns that a scoring run measures.
        expensive: the measures of `hardness` that a scoring run measures on request only.
        arrays: names of saved features and probabilities.
        other: columns that no scoring run makes.
    """

    hardness: tuple[str, ...]
    expensive: tuple[str, ...]
    arrays: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def features(self) -> FeatureKind | None:
        """The kind of features that the scoring run must save; None if the method reads no arrays."""
        if any(name.endswith("_adv") for name in self.arrays):
            return "adversarial"
        return "clean" if self.arrays else None


def method_inputs(selector: Selector) -> MethodInputs:
    """The inputs that a selector declares; none for a user's selector that does not declare its inputs."""
    names = required_inputs(selector) or ()
    cheap = {measure.name for measure in load_hardness(())}
    hardness = tuple(name for name in names if split_spec(spec_of_column(name))[0] in HARDNESS)
    return MethodInputs(
        hardness=hardness,
        expensive=tuple(spec_of_column(name) for name in hardness if name not in cheap),
        arrays=tuple(name for name in names if name in ARRAYS),
        other=tuple(name for name in names if name not in (*hardness, *ARRAYS)),
    )


def check_needs(
    method: str,
    selector: Selector,
    model: nn.Module,
    images: Tensor,
    feature_layer: str | None = None,
    measured: Sequence[str] = (),
    has_features: bool = False,
) -> MethodInputs:
    """Check that a scoring run of the model provides the inputs of a method, and return them.

    Args:
        method: the method as the user spells it, for messages.
        selector: the method's selector.
        model: the model of the scoring run.
        images: [B,C,H,W], to find the model's last layer.
        feature_layer: name of the layer whose input is the features; None for the last linear layer.
        measured: further columns that the scoring run is asked for.
        has_features: whether the clean features come from elsewhere.

    Raises:
        UsageError: the method needs a column that no scoring run makes, or features that the model does not have.
    """
    needs = method_inputs(selector)
    if has_features:
        needs = needs._replace(arrays=tuple(name for name in needs.arrays if name != "features"))
    if unknown := [name for name in needs.other if name not in measured]:
        suggestion = suggest_name(unknown[0], HARDNESS)
        raise UsageError(f"method {quote(method)} needs {quote(unknown[0])}, which no scoring run makes: {suggestion}")
    if needs.arrays or any(load_hardness([spec_of_column(name)])[0].needs_features for name in needs.hardness):
        try:
            find_last_layer(model, images, feature_layer)
        except UsageError as error:
            raise UsageError(f"method {quote(method)} needs features: {error}") from None
    return needs
