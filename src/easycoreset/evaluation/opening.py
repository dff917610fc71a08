"""What an evaluation starts from: device, data, and a model of ours or a state dict of anybody's."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from easycoreset.data import Source, Split, takes_size
from easycoreset.errors import UsageError, quote, require
from easycoreset.evaluation.checks import Check
from easycoreset.evaluation.outcomes import Outcome, predict_split
from easycoreset.models.card import ModelCard, read_card
from easycoreset.models.foreign import load_foreign, normalised
from easycoreset.models.saved import load_model
from easycoreset.options import EvaluateOptions
from easycoreset.spelling import split_place
from easycoreset.training.setup import open_data

LOOKED_AT = 1000  # samples on which other normalisations are tried


def open_all(options: EvaluateOptions) -> tuple[torch.device, Source, ModelCard]:
    """The device, the data, and the card of the model: a folder's own, or one made for a foreign state dict."""
    if options.weights.is_dir():
        card = read_card(options.weights)
        require(
            not options.input_mean, "input_mean", "left out for a folder, whose model takes [0, 1]", options.input_mean
        )
        square = card.shape[1] == card.shape[2]
        size = options.image_size or (card.shape[1] if takes_size(options.data) and square else None)
        return *open_data(dataclasses.replace(options, image_size=size)), card
    require(
        split_place(options.weights)[0].is_file(),
        "weights",
        "a trained model's folder, or a file of weights",
        str(options.weights),
    )
    if options.model is None:
        raise UsageError(f"weights: {options.weights} is a file: give the folder that holds it, or its model (--model)")
    device, source = open_data(options)
    card = ModelCard(
        model=options.model, shape=source.shape, mean=source.mean, std=source.std, class_names=tuple(source.class_names)
    )
    return device, source, card


def check_names(options: EvaluateOptions, own: Sequence[str], theirs: Sequence[str]) -> list[Check]:
    """The classes of a model of ours should be the data's; names that are numbers, as arrays have, say nothing.

    Capitals and what is no letter or digit do not count.
    """
    numbered = any(all(name.isdigit() for name in names) for names in (own, theirs))
    if numbered or not options.weights.is_dir():
        return []
    pairs = [(a, b) for a, b in zip(own, theirs, strict=True) if _plain(a) != _plain(b)]
    first = f"{quote(pairs[0][0])} where the data have {quote(pairs[0][1])}" if pairs else ""
    message = f"{len(pairs)} of the model's {len(own)} classes are named otherwise than the data's: {first}"
    return [Check("class_names", float(len(pairs)), not pairs, message)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def open_model(options: EvaluateOptions, card: ModelCard) -> tuple[nn.Module, Path]:
    """The model, and the file that its weights are in."""
    if not options.weights.is_dir():
        return load_foreign(options.weights, card, options.input_mean, options.input_std), options.weights
    return load_model(options.weights, options.model), options.weights / "model.safetensors"


def check_normalisation(
    options: EvaluateOptions, source: Source, split: Split, model: nn.Module, clean: Outcome
) -> list[Check]:
    """A foreign model that does clearly better on normalised images wants them: a weak model is found at fault else.

    Tried are the data's own mean and deviation, 0.5 and 0.5, and 0..255, on up to 1,000 of the samples.
    """
    if options.weights.is_dir():
        return []
    some = np.sort(np.random.default_rng(0).permutation(len(clean.index))[:LOOKED_AT])
    rows = clean.index[some]
    given = ~clean.broken[some]
    half, none, byte = ((value,) * source.shape[0] for value in (0.5, 0.0, 1 / 255))
    gains: dict[str, float] = {}
    for mean, std in ((source.mean, source.std), (half, half), (none, byte)):
        name = f"--input-mean {_say(mean)} --input-std {_say(std)}"
        right = _right(normalised(model, source.shape[0], mean, std), split, rows, options.batch_size)
        gain = right.astype(float) - given
        clear = gain.mean() > max(0.01, 2 * gain.std() / np.sqrt(len(gain)))
        gains[name] = float(gain.mean()) if clear else 0.0
    best = max(gains, key=lambda name: gains[name])
    message = (
        f"the model is right on {gains[best]:.1%} more of the clean samples when they are normalised: it was trained "
        f"on such input; say so by {best}"
    )
    return [Check("input_normalisation", gains[best], gains[best] <= 0, message)]


def _right(model: nn.Module, split: Split, rows: np.ndarray, batch_size: int) -> np.ndarray:
    return ~predict_split(model, split, rows, batch_size, finite=False).broken


def _say(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
