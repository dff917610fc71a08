"""Data sets in memory in place of a name: arrays, tensors, data sets of PyTorch or Hugging Face, DataFrames."""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from easycoreset.data import open_source
from easycoreset.data.huggingface import EncodedImages, find_columns, is_hf_dataset
from easycoreset.data.source import Source
from easycoreset.data.user_data import Part, is_pair_of_arrays, read_parts
from easycoreset.errors import UsageError, describe_error, quote
from easycoreset.files import write_atomic
from easycoreset.object_digests import digest_object
from easycoreset.python_objects import find_object, is_object_spec, keep_object, stored_file

SPLITS = ("train", "test")
COLUMNS = ("filepath", "label", "split")  # of a DataFrame that lists image files


def name_data(value: Any) -> str:
    """Keep a data set, and return the spelling that stands for it in options; its images are read once, now.

    Args:
        value: arrays or tensors (x, y), a map-style data set of (image, label), a data set of Hugging Face, a pair or a
            dictionary of these for training and test, a pandas DataFrame with the columns filepath and label, what
            `open_source` returns, or a function that returns one of these.

    Raises:
        UsageError: it is none of these, or its images or labels are not valid.
    """
    name = type(value).__name__
    if isinstance(value, Source):
        return keep_object(name, digest_object(_source_facts(value)), value)
    frames = value if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    if all(hasattr(frame, "to_csv") and hasattr(frame, "columns") for frame in frames):
        return _store_manifest(frames)
    if isinstance(value, tuple | list) and len(value) == 2 and all(map(is_hf_dataset, value)):
        value = dict(zip(("train", "test"), value, strict=True))
    if is_hf_dataset(value):
        parts: Mapping[str, Any] = value if isinstance(value, dict) else {"train": value}
        digests = (content for split, data in parts.items() for content in (split, *_encoded_contents(name, data)))
        return keep_object(name, _digest(digests), value)
    if callable(value) and not hasattr(value, "__getitem__"):
        return keep_object(getattr(value, "__name__", name), digest_object(value), value)
    if isinstance(value, str | bytes | int | float):
        raise UsageError(f"data must be a name, a path or a data set; got {quote(value)}")
    if isinstance(value, tuple | list) and value:
        first = value if is_pair_of_arrays(value) else value[0]
        name = "arrays" if is_pair_of_arrays(first) else type(first).__name__
    try:
        parts = read_parts(value, name)
    except UsageError:
        raise
    except Exception as error:  # a user's data set may raise anything
        raise UsageError(f"data {quote(name)} cannot be read: {describe_error(error)}") from error
    return keep_object(name, _digest(_array_contents(parts)), parts)


def name_test_data(value: Any, trained_on: str = "", decisions: Path | None = None) -> str:
    """Keep a data set for the evaluation of a module: without a test split, all samples are evaluated.

    Args:
        value: as `name_data` takes it; from image files in a DataFrame, a part is held out as usual.
        trained_on: fingerprint of the training split of a module that was trained here; if it is that of these data,
            only the held-out part is evaluated.
        decisions: the decisions with which the data were read for training.

    Raises:
        UsageError: as `name_data`.
    """
    is_function = callable(value) and not hasattr(value, "__getitem__")
    data = name_data(value() if is_function else value)
    if trained_on and open_source(data, decisions=decisions).splits["train"].fingerprint == trained_on:
        return data
    kept = find_object("data", data) if is_object_spec(data) else None
    parts = {"train": kept} if is_hf_dataset(kept) and not isinstance(kept, dict) else kept
    if not isinstance(parts, dict) or set(parts) != {"train"}:
        return data
    return keep_object(f"{type(value).__name__}_test", _digest([data]), {**parts, "test": parts["train"]})


def _source_facts(source: Source) -> list[Any]:
    prints = [(name, split.fingerprint) for name, split in source.splits.items()]
    return [prints, list(source.class_names), source.shape, source.mean, source.std, source.augmentation]


def _digest(contents: Any) -> str:
    state = hashlib.sha256()
    for content in contents:
        state.update(content.encode() if isinstance(content, str) else content)
    return state.hexdigest()


def _array_contents(parts: Mapping[str, Part]) -> Iterator[Any]:
    for split, part in parts.items():
        yield f"{split} {part.prefix} {part.x.dtype} {part.x.shape} {part.y.dtype} {list(part.names)}"
        yield from (np.ascontiguousarray(image).data for image in part.x)
        yield repr(part.y.tolist()) if part.y.dtype.hasobject else np.ascontiguousarray(part.y).tobytes()


def _encoded_contents(name: str, data: Any) -> Iterator[Any]:
    image, label = find_columns(name, data.features)
    yield repr(list(data.with_format(None)[label][:]))
    encoded = EncodedImages(data, image, np.arange(len(data)))
    yield from (encoded[row].getvalue() for row in range(len(encoded)))


def _store_manifest(frames: Sequence[Any]) -> str:
    """Write the image files that DataFrames list into a manifest of absolute paths.

    Args:
        frames: one, or those of training and test.

    Returns:
        The path of the manifest.
    """
    tables = [_list_images(frame, COLUMNS[: 3 if len(frames) == 1 else 2]) for frame in frames]
    names, rows = tables[0]
    if len(frames) == 2:
        names = COLUMNS
        rows = [[*row, split] for split, (_, listed) in zip(SPLITS, tables, strict=True) for row in listed]
    file = stored_file(f"images-{_digest(map(repr, rows))[:16]}.csv")

    def write(path: Any) -> None:
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([names, *rows])

    if not file.exists():
        write_atomic(file, write)
    return str(file)


def _list_images(frame: Any, columns: Sequence[str]) -> tuple[Sequence[str], list[list[str]]]:
    """The columns of a manifest that a DataFrame has, and their rows with absolute paths."""
    missing = [name for name in COLUMNS[:2] if name not in frame.columns]
    if missing:
        raise UsageError(
            f"data: a DataFrame must have the columns filepath and label; it lacks {quote(missing[0])}, and has "
            f"{', '.join(map(str, frame.columns))}"
        )
    names = [name for name in columns if name in frame.columns]
    nulls = [name for name in names if frame[name].isna().any()]
    if nulls:
        raise UsageError(f"data: column {quote(nulls[0])} of the DataFrame must hold no missing values")
    rows = [[*map(str, row)] for row in cast(Any, frame[names].to_numpy())]
    return names, [[os.path.abspath(row[0]), *row[1:]] for row in rows]
