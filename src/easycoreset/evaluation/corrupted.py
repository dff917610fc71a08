"""Accuracy under common corruptions: of each, of each severity, and their mean."""

import io
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from easycoreset.corruptions import BENCHMARK_CORRUPTIONS, SEVERITIES, Corruption, load_corruptions
from easycoreset.corruptions.stored import StoredCorruption, is_stored, open_stored
from easycoreset.data import Split
from easycoreset.errors import require
from easycoreset.evaluation.measurements import Entries, Measurement
from easycoreset.evaluation.outcomes import Outcome
from easycoreset.models.modes import device_of, frozen
from easycoreset.parquet import read_table, write_table
from easycoreset.progress import progress
from easycoreset.proportions import mean_share_interval

SHOWN_SIDE = 64  # pixels


def plan_corruptions(specs: Sequence[str], split: Split, shape: tuple[int, ...], seed: int) -> Measurement:
    """The corruptions that are named, as a measurement.

    Raises:
        UsageError: an unknown one, one that is named twice, or images that it does not fit.
    """
    corruptions: list[Corruption | StoredCorruption] = []
    for spec in specs:
        if is_stored(spec):
            require(
                split.name == "test",
                "corruptions",
                "computed ones for the training split, of which the benchmark has no arrays",
                spec,
            )
            corruptions += open_stored(spec, split.labels)
        else:
            corruptions += load_corruptions(spec, shape, seed)
    names = [f"{one.name}:severity={one.severity}" for one in corruptions]
    require(len(set(names)) == len(names), "corruptions", "named once each", list(specs))
    entries: Entries = {(one.name, one.severity): partial(measure_corruption, one) for one in corruptions}
    return Measurement("corruptions", ("corruption", "severity"), entries, summarise_corruptions)


def measure_corruption(
    corruption: Corruption | StoredCorruption,
    model: nn.Module,
    split: Split,
    clean: Outcome,
    batch_size: int,
    file: Path,
) -> pa.Table:
    """Predict the corrupted images of the evaluated samples.

    Returns:
        A table with the columns `index, label, corruption, severity, pred, png`: the first image as it is corrupted.
    """
    if file.exists():
        return read_table(file, {"index": "integer", "pred": "integer"})
    pred: list[np.ndarray] = []
    shown: list[bytes | None] = [None] * len(clean.index)
    label = f"{corruption.name} {corruption.severity}"
    with progress(label, len(clean.index)) as bar, frozen(model), torch.no_grad():
        for batch in split.batches(clean.index, batch_size, device_of(model)):
            corrupted = corruption(batch.x, batch.index)
            shown[0] = shown[0] or _encode_png(corrupted[0])
            pred.append(model(corrupted).argmax(1).cpu().numpy())
            bar.advance(len(pred[-1]))
    table = pa.table(
        {
            "index": clean.index,
            "label": split.labels[clean.index],
            "corruption": pa.array([corruption.name] * len(clean.index)).dictionary_encode(),
            "severity": np.full(len(clean.index), corruption.severity, np.int8),
            "pred": np.concatenate(pred),
            "png": pa.array(shown, pa.binary()),
        }
    )
    write_table(table, file)
    return table


def summarise_corruptions(table: pa.Table) -> dict[str, Any]:
    """Accuracies with 95% intervals over images.

    Returns:
        `kinds`: for each corruption its name, accuracy, interval, and its accuracies by severity; `severities`: the
        mean over the `computed` corruptions at each severity; `mean_of_eight` where the eight of the benchmark that are
        computed here have all severities; `cifar10-c` and `cifar100-c`: the mean of the 15 of these files. A mean names
        the corruptions that it is `of`.
    """
    right = _right_answers(table)
    kinds = list(dict.fromkeys(name for name, _ in right))
    computed = [name for name in kinds if not is_stored(name)]
    summary: dict[str, Any] = {"samples": len(next(iter(right.values()))), "computed": computed, "kinds": []}
    for name in kinds:
        levels = {severity: values for (one, severity), values in right.items() if one == name}
        by_severity = {str(severity): describe_mean([values]) for severity, values in levels.items()}
        summary["kinds"].append({"corruption": name, **describe_mean(levels.values()), "severities": by_severity})
    summary["severities"] = {
        str(severity): describe_mean(right[name, severity] for name in computed)
        for severity in SEVERITIES
        if computed and all((name, severity) in right for name in computed)
    }
    eight = [
        right[name, severity] for name in BENCHMARK_CORRUPTIONS for severity in SEVERITIES if (name, severity) in right
    ]
    if len(eight) == len(BENCHMARK_CORRUPTIONS) * len(SEVERITIES):
        summary["mean_of_eight"] = {**describe_mean(eight), "of": BENCHMARK_CORRUPTIONS}
    for kind in dict.fromkeys(name.partition(":")[0] for name in kinds if is_stored(name)):
        stored = [name for name in kinds if name.startswith(f"{kind}:")]
        mean = describe_mean(values for (name, _), values in right.items() if name in stored)
        summary[kind] = {**mean, "of": stored}
    return summary


def _encode_png(x: torch.Tensor) -> bytes:
    """An image [C,H,W] in [0,1], at most 64 pixels large."""
    pixels = x.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def describe_mean(right: Iterable[np.ndarray]) -> dict[str, float]:
    """The mean accuracy of several passes over the same images, each [n] bool, with a 95% interval over images."""
    accuracy, low, high = mean_share_interval(np.mean(list(right), axis=0))
    return {"accuracy": accuracy, "low": low, "high": high}


def _right_answers(table: pa.Table) -> dict[tuple[str, int], np.ndarray]:
    """(corruption, severity) -> [n] whether each image is classified correctly."""
    names = np.array(table["corruption"].to_pylist())
    severity, pred, label = (table[name].to_numpy() for name in ("severity", "pred", "label"))
    keys = dict.fromkeys(zip(names.tolist(), severity.tolist(), strict=True))
    return {(name, level): (pred == label)[(names == name) & (severity == level)] for name, level in keys}
