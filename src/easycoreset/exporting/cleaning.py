"""`clean`: a data set as it was decided on an audit's page. The data set itself is not changed."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from easycoreset.console import log
from easycoreset.data import Source, has_image_files, open_source
from easycoreset.data.content_hashes import content_digest
from easycoreset.data.images import MemoryImages
from easycoreset.data_specs import image_file_paths
from easycoreset.decisions import Decision, read_decisions
from easycoreset.documents import DataTable, Section
from easycoreset.errors import UsageError, quote, shorten, suggest_name
from easycoreset.exporting.folder import link_or_copy
from easycoreset.exporting.image_names import name_class_folder
from easycoreset.exporting.output_folders import check_replaceable, new_output_folder
from easycoreset.files import SCHEMA_VERSION, read_json, write_new
from easycoreset.options import CleanOptions, accept_options
from easycoreset.options.fields import values_of
from easycoreset.options.groups import ReadingOptions
from easycoreset.paths import sha256_of_file
from easycoreset.versions import command_line, versions

RECORD_NAME = "clean.json"
LISTED = 5  # decisions that a message names


@dataclass
class CleanedData:
    """What is left of a data set.

    Attributes:
        labels: part -> [N] name of each sample's label, None for one that is left out.
        changes: one entry for each picture that is left out or relabelled.
        ignored: one entry for each decision that could not be applied, with the reason.
    """

    labels: dict[str, list[str | None]]
    changes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ignored: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def counts(self, part: str) -> dict[str, int]:
        """Class -> number of samples of a part."""
        return dict(sorted(Counter(name for name in self.labels[part] if name is not None).items()))


@accept_options(CleanOptions)
def clean(options: CleanOptions) -> Path:
    """Write the data set as it was decided on the page of an audit; every change is listed in `clean.json`.

    The folder holds `train/CLASS/` and `test/CLASS/`, so that the parts stay what they are; a manifest has the columns
    filepath, label and split. Decisions about pictures that are gone or have changed are listed, the rest is applied.

    Returns:
        The folder or file.

    Raises:
        UsageError: the decisions are of another data set, a label is no class, or a class would be left empty.
    """
    decisions = read_decisions(options.decisions)
    source = _open(options)
    cleaned = apply_decisions(options.data, source, decisions, options.new_classes)
    if not cleaned.changes and decisions:
        reasons = ", ".join(sorted({line["reason"] for line in cleaned.ignored}))
        of = read_json(options.decisions).get("data")
        others = f"; they are of {quote(of)}" if of and of != PurePath(options.data).name else ""
        raise UsageError(f"decisions: {options.decisions}: none can be applied to {options.data} ({reasons}){others}")
    _require_classes(cleaned)
    if cleaned.ignored:
        first = "; ".join(f"{line['sample_id']} {line['reason']}" for line in cleaned.ignored[:LISTED])
        count = len(cleaned.ignored)
        log.warning("warning: %d decision%s not applied: %s", count, "s" * (count != 1), shorten(first, 500))
    record = {
        "schema_version": SCHEMA_VERSION,
        "command": "clean",
        "data": PurePath(options.data).name,
        "decisions": sha256_of_file(options.decisions),
        "changes": cleaned.changes,
        "ignored": cleaned.ignored,
        "unreadable": source.unreadable,
        "classes": {part: {"before": _count(source, part), "after": cleaned.counts(part)} for part in cleaned.labels},
        "command_line": command_line(),
        "versions": versions(),
    }
    _WRITERS[_kind_of(options)](options, source, cleaned, record)
    return options.out


def apply_decisions(data: str, source: Source, decisions: list[Decision], new_classes: bool) -> CleanedData:
    """Apply decisions to the labels of a data set.

    Raises:
        UsageError: a label is no class, and `new_classes` is False.
    """
    names = list(source.class_names)
    labels: dict[str, list[str | None]] = {
        part: [names[k] for k in split.labels.tolist()] for part, split in source.splits.items()
    }
    row_of = {(part, name): row for part, split in source.splits.items() for row, name in enumerate(split.sample_ids)}
    cleaned = CleanedData(labels)
    for one in decisions:
        right = one.right_label
        row = row_of.get((one.part, one.sample_id))
        reason = "is gone" if row is None else _why_not(data, source, one, row)
        if row is None or reason:
            cleaned.ignored.append({"part": one.part, "sample_id": one.sample_id, "reason": reason})
            continue
        if right is not None and not one.leave_out and right not in names and not new_classes:
            raise UsageError(
                f"decisions: {quote(right)}, the label of {quote(one.sample_id)}, is no class: "
                f"{suggest_name(right, names)}; --new-classes allows new ones"
            )
        change = {"part": one.part, "sample_id": one.sample_id, "label": labels[one.part][row]}
        if one.leave_out:
            labels[one.part][row] = None
            cleaned.changes.append({**change, "left_out": True})
        elif right is not None and right != labels[one.part][row]:
            labels[one.part][row] = right
            cleaned.changes.append({**change, "right_label": right})
    return cleaned


def _why_not(data: str, source: Source, decision: Decision, row: int) -> str:
    """Why a decision does not hold for the picture of a row any more; empty if it does."""
    split = source.splits[decision.part]
    if content_digest(data, split, row) != decision.digest:
        return "has changed"
    if not decision.leave_out and source.class_names[split.labels[row]] not in (decision.label, decision.right_label):
        return "has another label now"
    return ""


def _open(options: CleanOptions) -> Source:
    """Open the data set; of image files a small copy is enough.

    Raises:
        UsageError: it is no image folder, manifest or .npz, or `out` does not fit it.
    """
    reading = values_of(options, ReadingOptions)
    if has_image_files(options.data):
        if options.out.suffix == ".npz":
            raise UsageError("out must be a folder or a .csv for image files; got a .npz")
        return open_source(options.data, **{**reading, "image_size": 8})
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


def _require_classes(cleaned: CleanedData) -> None:
    """Refuse to leave a class without training samples that has test samples, and data of fewer than two classes."""
    train = cleaned.counts("train")
    if emptied := [name for name in cleaned.counts("test") if name not in train] if "test" in cleaned.labels else []:
        raise UsageError(
            f"decisions: no training sample of class {quote(emptied[0])} would be left, but test samples of it: leave "
            "these out too, or keep some"
        )
    if len(train) < 2:
        raise UsageError("decisions: at least two classes are needed; got everything of the others left out")


def _write_folder(options: CleanOptions, source: Source, cleaned: CleanedData, record: dict[str, Any]) -> None:
    check_replaceable(options.out)
    files: dict[str, Path] = {}
    for part, split in source.splits.items():
        paths = image_file_paths(options.data, split.sample_ids)
        for path, label in zip(paths, cleaned.labels[part], strict=True):
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


def _write_manifest(options: CleanOptions, source: Source, cleaned: CleanedData, record: dict[str, Any]) -> None:
    import csv

    start = options.out.absolute().parent
    lines = [
        (os.path.relpath(path.absolute(), start).replace(os.sep, "/"), label, part)
        for part, split in source.splits.items()
        for path, label in zip(image_file_paths(options.data, split.sample_ids), cleaned.labels[part], strict=True)
        if label is not None
    ]

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("filepath", "label", "split"), *lines])

    write_new(options.out, write)
    _write_record(options.out.with_suffix(f".{RECORD_NAME}"), record)


def _write_arrays(options: CleanOptions, source: Source, cleaned: CleanedData, record: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {}
    for part, split in source.splits.items():
        assert isinstance(split.images, MemoryImages)
        kept = [row for row, label in enumerate(cleaned.labels[part]) if label is not None]
        suffix = "" if part == "train" else "_test"
        arrays[f"x{suffix}"] = split.images.pixels.numpy()[kept]
        arrays[f"y{suffix}"] = np.array([cleaned.labels[part][row] for row in kept])

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
