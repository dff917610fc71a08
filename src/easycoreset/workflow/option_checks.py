"""Checks that find errors in the options of a long command before it starts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from easycoreset.attacks import load_attack
from easycoreset.data import Source
from easycoreset.data.unscored import unscored_table
from easycoreset.hardness import CHEAP
from easycoreset.models import build_model, choose_model
from easycoreset.models.card import card_for
from easycoreset.options import PipelineOptions
from easycoreset.scoring.needs import FeatureKind, check_needs
from easycoreset.selection import load_selector
from easycoreset.selection.published import read_sample_list


def check_attacks(attacks: Sequence[str], eps: Sequence[float]) -> None:
    """Load every attack at every radius.

    Raises:
        UsageError: an attack or one of its options is unknown.
    """
    for spec in attacks:
        for value in eps:
            load_attack(spec, norm="linf", eps=value)


def check_sample_list(option: str, file: Path | None, source: Source) -> None:
    """Read a list of samples, if one is given, and find its samples in the training split.

    Raises:
        UsageError: the list is missing, unreadable, or has samples that are not in the split.
    """
    if file is not None:
        read_sample_list(option, file, unscored_table(source))


def check_models(names: Sequence[str | None], source: Source) -> None:
    """Build every model once.

    Raises:
        UsageError: a model is unknown or does not fit the images.
    """
    for name in names:
        if name is not None:
            build_model(card_for(name, source))


def check_scoring_needs(options: PipelineOptions, source: Source) -> tuple[tuple[str, ...], FeatureKind | None]:
    """The hardness that the scoring run must measure for the method, and the kind of features that it must save.

    Raises:
        UsageError: the method needs columns that no scoring run makes, or features that the model does not have.
    """
    _, selector = load_selector(options.method, per_class=options.per_class or None)
    images = next(source.splits["train"].batches(np.arange(2), 2)).x
    model = build_model(card_for(options.model or choose_model(source.shape, torch.device("cpu")), source))
    needs = check_needs(options.method, selector, model, images)
    return ((CHEAP, *needs.expensive) if needs.expensive else ()), needs.features
