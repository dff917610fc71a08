"""What is wrong with a long command, found before its work starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from easycoreset.attacks import load_attack
from easycoreset.data import Source
from easycoreset.errors import UsageError, quote
from easycoreset.hardness import CHEAP, HARDNESS, load_hardness
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard
from easycoreset.models.last_layer import find_last_layer
from easycoreset.options import PipelineOptions
from easycoreset.selection import load_selector, needs_of
from easycoreset.selection.published import read_listed
from easycoreset.tables import Scores
from easycoreset.tables.scores import ARRAYS

FeatureKind = Literal["clean", "adversarial"]


def check_attacks(attacks: Sequence[str], eps: Sequence[float]) -> None:
    """Load every attack at every radius.

    Raises:
        UsageError: unknown attack or option.
    """
    for spec in attacks:
        for value in eps:
            load_attack(spec, norm="linf", eps=value)


def check_list(option: str, file: Path | None, source: Source) -> None:
    """Read a list of samples of the training split.

    Raises:
        UsageError: missing, broken, or of other samples.
    """
    split = source.splits["train"]
    facts = {"fingerprint": split.fingerprint, "split": "train"}
    table = Scores(
        sample_ids=split.sample_ids,
        labels=split.labels,
        class_names=list(source.class_names),
        n_obs=np.zeros(len(split), np.int32),
        columns={},
        provenance=facts,
    )
    if file is not None:
        read_listed(option, file, table)


def check_models(names: Sequence[str | None], source: Source) -> None:
    """Build every model once.

    Raises:
        UsageError: unknown, or one that does not fit the images.
    """
    for name in names:
        if name is not None:
            build_model(card_of(name, source))


def card_of(model: str, source: Source) -> ModelCard:
    """The card of a model for a data set."""
    return ModelCard(
        model=model, shape=source.shape, mean=source.mean, std=source.std, class_names=tuple(source.class_names)
    )


def needs_of_method(options: PipelineOptions, source: Source) -> tuple[tuple[str, ...], FeatureKind | None]:
    """What the scoring run must measure and save for the method: hardness, and the kind of features.

    Raises:
        UsageError: a method whose columns no scoring run makes, or features that the model does not have.
    """
    _, selector = load_selector(options.method, per_class=options.per_class or None)
    needs = needs_of(selector) or ()
    lacking = [need for need in needs if need not in (*HARDNESS, *ARRAYS)]
    if lacking:
        raise UsageError(f"method {quote(options.method)} needs {quote(lacking[0])}, which no scoring run makes")
    cheap = {measure.name for measure in load_hardness(())}
    asked = tuple(need for need in needs if need in HARDNESS and need not in cheap)
    arrays = [need for need in needs if need in ARRAYS]
    if arrays and options.model is not None:
        images = next(source.splits["train"].batches(np.arange(2), 2)).x
        find_last_layer(build_model(card_of(options.model, source)), images)
    features: FeatureKind | None = "clean" if arrays else None
    if any(need.endswith("_adv") for need in arrays):
        features = "adversarial"
    return ((CHEAP, *asked) if asked else ()), features
