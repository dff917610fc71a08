"""Saved features: penultimate features and probabilities of every training sample, for selectors that need them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easycoreset.attacks.ball import random_point
from easycoreset.data import Batch, Split
from easycoreset.errors import RunError, UsageError
from easycoreset.files import SCHEMA_VERSION, write_atomic, write_json
from easycoreset.hardness.exact import forward_with_gradient
from easycoreset.models.last_layer import LastLayer, find_last_layer
from easycoreset.models.modes import frozen, full_float32
from easycoreset.objectives.inner_maximisation import maximise_loss
from easycoreset.records import read_record
from easycoreset.tables.features import RECORD, feature_file_names, has_features

FLOAT16_MAX = float(np.finfo(np.float16).max)  # features are saved in float16
PGD_STEPS = 10


def saved_feature_kinds(folder: Path, split: Split, layer: str | None) -> dict[str, Any]:
    """Kinds (clean, adversarial) saved completely for this data and layer, each with its entry in `features.json`."""
    try:
        record = read_record(folder / RECORD)
    except UsageError:
        return {}
    if record.get("fingerprint") != split.fingerprint or layer not in (None, record.get("layer")):
        return {}
    return {kind: entry for kind, entry in record.get("kinds", {}).items() if has_features(folder, kind, len(split))}


def save_features(
    model: nn.Module,
    split: Split,
    folder: Path,
    *,
    kind: str,
    model_name: str,
    device: torch.device,
    feature_layer: str | None = None,
    eps: float = 8 / 255,
    seed: int = 0,
    batch_size: int = 250,
    advance: Callable[[int], None] = lambda samples: None,
) -> None:
    """Write features (float16) and probabilities (float32) of all samples, sample i in row i, and `features.json`.

    The model is in eval mode. The two arrays give the gradient of the last layer: the outer product of p - 1_y and
    (h, 1).

    Args:
        model: trained, on `device`.
        split: the training split.
        folder: the folder of the scores.
        kind: clean, or adversarial (PGD examples: cross-entropy, 10 steps, linf, random start).
        model_name: name of the model, for `features.json`.
        device: where the model runs.
        feature_layer: the name of the layer whose input is taken; None for the last linear layer.
        eps: radius of the PGD examples.
        seed: seed of their random starts.
        batch_size: samples per batch.
        advance: called with the number of samples of each finished batch.

    Raises:
        UsageError: the model has no last linear layer and no layer is named.
        RunError: a feature is not finite or is beyond float16.
    """
    kinds = saved_feature_kinds(folder, split, feature_layer)
    order = np.arange(len(split), dtype=np.int64)
    probe = next(split.batches(order[:2], 2, device))
    layer = find_last_layer(model, probe.x, feature_layer)

    def computed_batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for batch in split.batches(order, batch_size, device):
            inputs = batch if kind == "clean" else perturb_batch(model, batch, eps, seed)
            yield batch.index, *compute_features(model, inputs, layer)
            advance(len(batch.index))

    shapes = _write_arrays(folder, kind, len(split), computed_batches())
    kinds[kind] = shapes if kind == "clean" else shapes | {"steps": PGD_STEPS, "eps": eps, "norm": "linf", "seed": seed}
    write_json(
        folder / RECORD,
        {
            "schema_version": SCHEMA_VERSION,
            "model": model_name,
            "layer": layer.name,
            "bias": layer.has_bias,
            "split": split.name,
            "fingerprint": split.fingerprint,
            "kinds": kinds,
        },
    )


@full_float32()
def perturb_batch(model: nn.Module, batch: Batch, eps: float, seed: int) -> Batch:
    """PGD examples of a batch: cross-entropy, 10 steps, linf, a random start by (seed, index)."""
    start = random_point(batch.x, batch.index, eps, "linf", seed)
    x_adv = maximise_loss(
        model,
        batch.x,
        start,
        lambda logits: F.cross_entropy(logits, batch.y, reduction="sum"),
        eps=eps,
        steps=PGD_STEPS,
    )
    return Batch(batch.index, x_adv, batch.y)


def compute_features(model: nn.Module, batch: Batch, layer: LastLayer) -> tuple[Tensor, Tensor]:
    """Features [B, d] and probabilities [B, classes] of a batch, float32."""
    with frozen(model), full_float32(), layer.capture_inputs():
        outputs = forward_with_gradient(model, batch.x, batch.y, gradient=None, layer=layer)
    assert outputs.features is not None
    return outputs.features.float(), outputs.p.float()


def _reserve_space(path: Path) -> None:
    """Reserve the space of a file now: writing into a mapped file on a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _write_arrays(
    folder: Path, kind: str, size: int, batches: Iterator[tuple[Tensor, Tensor, Tensor]]
) -> dict[str, Any]:
    """Write the two arrays of one kind, each renamed into place when complete; returns their shapes."""
    features_file, probabilities_file = (folder / name for name in feature_file_names(kind))
    arrays: list[np.memmap] = []

    def fill(features_path: Path, probabilities_path: Path) -> None:
        for index, features, probabilities in batches:
            can_save = features.abs().amax(1) <= FLOAT16_MAX
            if not bool(can_save.all()):
                sample = int(index[~can_save][0])
                raise RunError(
                    f"features of sample {sample} are not finite or beyond float16 ({FLOAT16_MAX:g}): not saved"
                )
            if not arrays:
                for path, values, dtype in (
                    (features_path, features, np.float16),
                    (probabilities_path, probabilities, np.float32),
                ):
                    shape = (size, values.shape[1])
                    arrays.append(np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape))
                    _reserve_space(path)
            for array, values in zip(arrays, (features, probabilities), strict=True):
                array[index.cpu().numpy()] = values.cpu().numpy()
        for array in arrays:
            array.flush()

    write_atomic(
        features_file,
        lambda features_path: write_atomic(
            probabilities_file, lambda probabilities_path: fill(features_path, probabilities_path)
        ),
    )
    return {"features": list(arrays[0].shape), "probabilities": list(arrays[1].shape)}
