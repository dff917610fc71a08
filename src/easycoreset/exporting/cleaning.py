"""`clean`: write a data set with the decisions of an audit's page applied. The data set itself is not changed."""

import os
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from easycoreset.console import log
from easycoreset.data import Source, has_image_files, open_source
from easycoreset.data.decided import DecidedLabels, decide
from easycoreset.data.images import MemoryImages
from easycoreset.data_specs import image_file_paths
from easycoreset.documents import DataTable, Section
from easycoreset.errors import UsageError, quote
from easycoreset.exporting.folder import link_or_copy
from easycoreset.exporting.image_names import name_class_folder
from easycoreset.exporting.output_folders import check_replaceable, new_output_folder
from easycoreset.files import SCHEMA_VERSION, write_new
from easycoreset.options import CleanOptions, accept_options
from easycoreset.options.fields import values_of
from easycoreset.options.groups import ReadingOptions
from easycoreset.paths import sha256_of_file
from easycoreset.versions import command_line, versions

RECORD_NAME = "clean.json"


@accept_options(CleanOptions)
def clean(options: CleanOptions) -> Path:
    """Write a data set with the decisions of an audit's page applied; every change is listed in `clean.json`.

    A folder is written as `train/CLASS/` and `test/CLASS/`, so that each picture stays in its split; a manifest has the
    columns filepath, label and split. Decisions about pictures that are gone or have changed are not applied, and are
    listed in `clean.json` too.

    Returns:
        The folder or file.

    Raises:
        UsageError: the decisions are of another data set, a label is no class, a class would be left empty, or `data`
            or `out` is of the wrong kind.
    """
    source = _open(options)
    decided = decide(options.data, source, options.decisions, options.new_classes)
    if decided.ignored:
        log.warning("warning: %s", decided.describe_ignored())
    record = {
        "schema_version": SCHEMA_VERSION,
        "command": "clean",
        "data": PurePath(options.data).name,
        "decisions": sha256_of_file(options.decisions),
        "changes": decided.changes,
        "ignored": decided.ignored,
        "unreadable": source.unreadable,
        "classes": {part: {"before": _count(source, part), "after": decided.counts(part)} for part in decided.labels},
        "command_line": command_line(),
        "versions": versions(),
    }
    _WRITERS[_kind_of(options)](options, source, decided, record)
    return options.out


def _open(options: CleanOptions) -> Source:
    """Open the data set; image files are decoded at a small size, because their pixels are not needed.

    Raises:
        UsageError: `data` is not an image folder, a manifest or an .npz file, or `out` does not fit it.
    """
    reading = values_of(options, ReadingOptions)
    if has_image_files(options.data):
        if options.out.suffix == ".npz":
            raise UsageError("out must be a folder or a .csv for image files; got a .npz")
        return open_source(options.data, **{**reading, "image_size": 8, "decisions": None})
    if Path(options.data).suffix != ".npz":
        raise UsageError(f"data must be an image folder, a manifest or a .npz to be cleaned; got {quote(options.data)}")
    if options.out.suffix != ".npz":
        raise UsageError(f"out must be a .npz for the arrays of {options.data}; got {quote(str(options.out))}")
    return open_source(options.data, classes=options.classes)


def _kind_of(options: CleanOptions) -> str:
    return options.out.suffix if options.out.suffix in (".csv", ".npz") else "folder"


def _count(source: Source, part: str) -> dict[str, int]:
    split = source.splits[part]
    counts = np.bincount(split.labels, minlength=len(source.class_names)).tolist()
    return {name: count for name, count in sorted(zip(source.class_names, counts, strict=True)) if count}


def _write_folder(options: CleanOptions, source: Source, decided: DecidedLabels, record: dict[str, Any]) -> None:
    check_replaceable(options.out)
    files: dict[str, Path] = {}
    for part, split in source.splits.items():
        paths = image_file_paths(options.data, split.sample_ids)
        for path, label in zip(paths, decided.labels[part], strict=True):
            if label is not None:
                files[_free_name(files, f"{part}/{name_class_folder(label)}", path)] = path.resolve()
    with new_output_folder(options.out, "clean", {"copy": options.copy, "kept": len(files)}) as folder:
        link_or_copy(files, folder, options.copy)
        _write_record(folder / RECORD_NAME, record)


def _free_name(taken: dict[str, Path], folder: str, path: Path) -> str:
    """The file's own name in the folder, with a number where another file has it already."""
    name = f"{folder}/{path.name}"
    number = 2
    while name in taken:
        name = f"{folder}/{path.stem} {number}{path.suffix}"
        number += 1
    return name


def _write_manifest(options: CleanOptions, source: Source, decided: DecidedLabels, record: dict[str, Any]) -> None:
    import csv

    start = options.out.absolute().parent
    lines = [
        (os.path.relpath(path.absolute(), start).replace(os.sep, "/"), label, part)
        for part, split in source.splits.items()
        for path, label in zip(image_file_paths(options.data, split.sample_ids), decided.labels[part], strict=True)
        if label is not None
    ]

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("filepath", "label", "split"), *lines])

    write_new(options.out, write)
    _write_record(options.out.with_suffix(f".{RECORD_NAME}"), record)


def _write_arrays(options: CleanOptions, source: Source, decided: DecidedLabels, record: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {}
    for part, split in source.splits.items():
        assert isinstance(split.images, MemoryImages)
        kept = [row for row, label in enumerate(decided.labels[part]) if label is not None]
        suffix = "" if part == "train" else "_test"
        arrays[f"x{suffix}"] = split.images.pixels.numpy()[kept]
        arrays[f"y{suffix}"] = np.array([decided.labels[part][row] for row in kept])

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    write_new(options.out, write)
    _write_record(options.out.with_suffix(f".{RECORD_NAME}"), record)


def _write_record(path: Path, record: dict[str, Any]) -> None:
    import json

    write_new(path, lambda temporary: temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8"))


def clean_summary(record: dict[str, Any]) -> list[Section]:
    """What was changed: the classes of each part before and after, and what could not be applied."""
    left_out = sum(bool(change.get("left_out")) for change in record["changes"])
    relabelled = len(record["changes"]) - left_out
    bullets = [f"{left_out} picture{'s' * (left_out != 1)} left out, {relabelled} with another label."]
    if record["ignored"]:
        bullets.append(f"Decisions that are not applied: {len(record['ignored'])}; clean.json says why.")
    if record["unreadable"]:
        bullets.append(f"Files that cannot be read, and are left out too: {len(record['unreadable'])}.")
    rows = [
        [part, name, counts["before"].get(name, 0), counts["after"].get(name, 0)]
        for part, counts in record["classes"].items()
        for name in sorted({*counts["before"], *counts["after"]})
    ]
    table = DataTable("samples of each class", ["part", "class", "before", "after"], rows, blocks=["part"])
    return [Section("Cleaned", bullets=bullets, tables=[table], brief=True)]


_WRITERS = {"folder": _write_folder, ".csv": _write_manifest, ".npz": _write_arrays}
