"""Opens the inputs of an evaluation: device, data, and one of our models or a foreign state dict."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from easycoreset.data import Source, Split, needs_image_size
from easycoreset.data_specs import split_weights_path
from easycoreset.errors import UsageError, quote, require
from easycoreset.evaluation.checks import Check
from easycoreset.evaluation.outcomes import Outcome, clean_outcome, predict_logits
from easycoreset.models import build_model
from easycoreset.models.card import ModelCard, card_for, read_card
from easycoreset.models.foreign import load_foreign, prepend_normalisation
from easycoreset.models.saved import load_model
from easycoreset.options import EvaluateOptions
from easycoreset.options.evaluating import BEST_FOLDER
from easycoreset.python_objects import is_object_spec
from easycoreset.records import read_record
from easycoreset.tables import Ints
from easycoreset.tables.holdout import hold_out
from easycoreset.training.setup import open_data

NORMALISATION_SAMPLES = 1000  # on which other normalisations are tried


def open_inputs(options: EvaluateOptions) -> tuple[torch.device, Source, ModelCard]:
    """Open the device, the data, and the model's card: from its folder, or made for a foreign state dict."""
    require(
        options.checkpoint == "last" or options.model_path.is_dir(),
        "checkpoint",
        f"last, or best with the folder of a training with --val-fraction, which holds {BEST_FOLDER}/",
        f"{options.checkpoint}, and weights {options.weights}",
    )
    if options.model_path.is_dir():
        card = read_card(options.model_path)
        require(
            not options.input_mean, "input_mean", "left out for a folder, whose model takes [0, 1]", options.input_mean
        )
        square = card.shape[1] == card.shape[2]
        size = options.image_size or (card.shape[1] if needs_image_size(options.data) and square else None)
        return *open_data(dataclasses.replace(options, image_size=size)), card
    require(
        split_weights_path(options.weights_path)[0].is_file(),
        "weights",
        "a trained model's folder, or a file of weights",
        str(options.weights_path),
    )
    if options.model is None:
        raise UsageError(f"weights: {options.weights} is a file: give the folder that holds it, or its model (--model)")
    device, source = open_data(options)
    if is_object_spec(options.data) and options.classes is None:
        source = _fix_classes(options, source)
    return device, source, card_for(options.model, source)


def split_to_evaluate(options: EvaluateOptions, source: Source, card: ModelCard) -> tuple[Split, Ints]:
    """The split, and its rows [n] that may be evaluated: of `val` those that the training held out.

    Raises:
        UsageError: no samples were held out, or of other data.
    """
    if options.split != "val":
        split = source.splits[options.split]
        return split, np.arange(len(split), dtype=np.int64)
    file = options.weights_path / "run.json"
    val_fraction: Any = read_record(file)["options"].get("val_fraction") if file.is_file() else None
    rule = "val only with weights of a training with --val-fraction"
    require(val_fraction is not None, "split", rule, f"val, and weights {options.weights}")
    split = dataclasses.replace(source.splits["train"], name="val")
    same = split.fingerprint == (card.trained_on or {}).get("fingerprint")
    require(same, "split", "val only with the data that the model was trained on", options.data)
    return split, hold_out(split.labels, val_fraction)[1]


def _fix_classes(options: EvaluateOptions, source: Source) -> Source:
    """Number the labels by the model's outputs where the data do not have all classes."""
    if not all(name.isdecimal() for name in source.class_names):
        return source
    network = build_model(card_for(str(options.model), source)).eval()
    logits = None
    with torch.no_grad(), contextlib.suppress(Exception):  # the checks of the model tell what is wrong
        logits = network(next(source.splits["test"].batches(np.arange(1), 1)).x)
    outputs = logits.shape[-1] if isinstance(logits, torch.Tensor) and logits.ndim == 2 else 0
    if outputs <= len(source.class_names):
        return source
    return open_data(dataclasses.replace(options, classes=str(outputs)))[1]


def check_class_names(options: EvaluateOptions, model_names: Sequence[str], data_names: Sequence[str]) -> list[Check]:
    """Check that our model and the data have the same class names, unless names are only numbers, as in arrays.

    Case, and characters other than letters and digits, are ignored.
    """
    numbered = any(all(name.isdigit() for name in names) for names in (model_names, data_names))
    if numbered or not options.model_path.is_dir():
        return []
    pairs = [(a, b) for a, b in zip(model_names, data_names, strict=True) if _plain_name(a) != _plain_name(b)]
    example = f"{quote(pairs[0][0])} where the data have {quote(pairs[0][1])}" if pairs else ""
    message = f"{len(pairs)} of the model's {len(model_names)} classes have other names than in the data: {example}"
    return [Check("class_names", float(len(pairs)), not pairs, message)]


def _plain_name(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


def open_model(options: EvaluateOptions, card: ModelCard) -> tuple[nn.Module, Path]:
    """Load the model; also return the file of its weights."""
    if not options.model_path.is_dir():
        return load_foreign(options.weights_path, card, options.input_mean, options.input_std), options.weights_path
    return load_model(options.model_path, options.model), options.model_path / "model.safetensors"


def check_normalisation(
    options: EvaluateOptions, source: Source, split: Split, model: nn.Module, clean: Outcome
) -> list[Check]:
    """Check that a foreign model does not do clearly better on normalised images: then it was trained on them.

    It tries the data's mean and standard deviation, 0.5 and 0.5, and 0..255, on up to 1,000 samples.
    """
    if options.model_path.is_dir():
        return []
    positions = np.sort(np.random.default_rng(0).permutation(len(clean.index))[:NORMALISATION_SAMPLES])
    rows = clean.index[positions]
    correct = ~clean.broken[positions]
    half, zero, byte = ((value,) * source.shape[0] for value in (0.5, 0.0, 1 / 255))
    gains: dict[str, float] = {}
    for mean, std in ((source.mean, source.std), (half, half), (zero, byte)):
        name = f"--input-mean {_format_numbers(mean)} --input-std {_format_numbers(std)}"
        normalised_correct = _predict_correct(
            prepend_normalisation(model, source.shape[0], mean, std), split, rows, options.samples_per_batch
        )
        gain = normalised_correct.astype(float) - correct
        significant = gain.mean() > max(0.01, 4 * gain.std() / np.sqrt(len(gain)))
        gains[name] = float(gain.mean()) if significant else 0.0
    best = max(gains, key=lambda name: gains[name])
    message = (
        f"the model is right on {gains[best]:.1%} more of the clean samples when they are normalised; if it was "
        f"trained on normalised input, add {best}"
    )
    return [Check("input_normalisation", gains[best], gains[best] <= 0, message)]


def _predict_correct(model: nn.Module, split: Split, rows: np.ndarray, batch_size: int) -> np.ndarray:
    return ~clean_outcome(predict_logits(model, split, rows, batch_size, finite=False), split, rows).broken


def _format_numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
