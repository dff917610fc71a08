"""A data set as it was decided on an audit's page: pictures are left out, or get another label."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from easycoreset.data.content_hashes import content_digest
from easycoreset.data.images import MemoryImages, take_images
from easycoreset.data.source import Ints, Source, Split
from easycoreset.data_specs import has_image_files, image_file_paths
from easycoreset.decisions import Decision, read_decisions
from easycoreset.errors import UsageError, quote, shorten, suggest_name
from easycoreset.files import read_json
from easycoreset.tables.fingerprint import fingerprint

LISTED = 5  # decisions that a message names


@dataclass
class DecidedLabels:
    """The labels of a data set after decisions.

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

    def describe_ignored(self) -> str:
        """The decisions that are not applied, in a sentence; empty if there are none."""
        count = len(self.ignored)
        first = "; ".join(f"{line['sample_id']} {line['reason']}" for line in self.ignored[:LISTED])
        return f"{count} decision{'s' * (count != 1)} not applied: {shorten(first, 500)}" if count else ""


def decide(data: str, source: Source, file: Path, new_classes: bool = False) -> DecidedLabels:
    """Apply the decisions of a file to the labels of a data set.

    Raises:
        UsageError: none can be applied, a label is no class (unless `new_classes` allows it), or a class would be left
            without training samples.
    """
    decisions = read_decisions(file)
    decided = apply_decisions(data, source, decisions, new_classes)
    if not decided.changes and decided.ignored:
        reasons = ", ".join(sorted({f"a picture {line['reason']}" for line in decided.ignored}))
        of = read_json(file).get("data")
        others = f"; they were made for the data {quote(of)}" if of and of != PurePath(data).name else ""
        raise UsageError(f"decisions: {file}: none can be applied to {data} ({reasons}){others}")
    _require_classes(
        decided,
        {part: {str(source.class_names[k]) for k in np.unique(split.labels)} for part, split in source.splits.items()},
    )
    return decided


def decided_source(data: str, source: Source, file: Path) -> Source:
    """The data set with the decisions of a file: its samples keep their ids.

    Raises:
        UsageError: as for `decide`.
    """
    decided = decide(data, source, file)
    names = list(source.class_names)
    splits: dict[str, Split] = {}
    for part, split in source.splits.items():
        labels = decided.labels[part]
        rows = np.array([row for row, label in enumerate(labels) if label is not None], np.int64)
        chosen = np.array([names.index(label) for label in labels if label is not None], np.int64)
        changes = sorted(str(change) for change in decided.changes if change["part"] == part)
        splits[part] = _take(data, split, rows, chosen, changes) if changes else split
    left_out = sum("left_out" in change for change in decided.changes)
    note = f"{left_out} left out, {len(decided.changes) - left_out} with another label, as decided in {file.name}"
    notes = [*source.notes, *filter(None, [note, decided.describe_ignored()])]
    return replace(source, splits=splits, notes=notes)


def _take(data: str, split: Split, rows: Ints, labels: Ints, changes: Sequence[str]) -> Split:
    """The samples `rows` with other labels; where possible, with the fingerprint that such data on disk would have."""
    ids = [str(split.sample_ids[row]) for row in rows.tolist()]
    images = take_images(split.images, rows)
    if has_image_files(data):
        known = fingerprint(ids, labels, (str(file.stat().st_size).encode() for file in image_file_paths(data, ids)))
    elif isinstance(images, MemoryImages):
        known = fingerprint(ids, labels, (images.image(row).numpy().tobytes() for row in range(len(ids))))
    else:
        known = hashlib.sha256("\n".join([split.fingerprint, *changes]).encode()).hexdigest()
    return Split(split.name, images, labels, ids, known)


def apply_decisions(data: str, source: Source, decisions: list[Decision], new_classes: bool) -> DecidedLabels:
    """Apply decisions to the labels of a data set.

    Raises:
        UsageError: a label is no class, and `new_classes` is False.
    """
    names = list(source.class_names)
    labels: dict[str, list[str | None]] = {
        part: [names[k] for k in split.labels.tolist()] for part, split in source.splits.items()
    }
    row_of = {(part, name): row for part, split in source.splits.items() for row, name in enumerate(split.sample_ids)}
    decided = DecidedLabels(labels)
    for one in decisions:
        right = one.right_label
        row = row_of.get((one.part, one.sample_id))
        reason = "is gone" if row is None else _why_not(data, source, one, row)
        if row is None or reason:
            decided.ignored.append({"part": one.part, "sample_id": one.sample_id, "reason": reason})
            continue
        if right is not None and not one.leave_out and right not in names and not new_classes:
            raise UsageError(
                f"decisions: the label {quote(right)} of {quote(one.sample_id)} is not a class: "
                f"{suggest_name(right, names)}; clean --new-classes allows new classes"
            )
        change = {"part": one.part, "sample_id": one.sample_id, "label": labels[one.part][row]}
        if one.leave_out:
            labels[one.part][row] = None
            decided.changes.append({**change, "left_out": True})
        elif right is not None and right != labels[one.part][row]:
            labels[one.part][row] = right
            decided.changes.append({**change, "right_label": right})
    return decided


def _why_not(data: str, source: Source, decision: Decision, row: int) -> str:
    """Why a decision does not hold for the picture of a row any more; empty if it does."""
    split = source.splits[decision.part]
    if content_digest(data, split, row) != decision.digest:
        return "has changed"
    if not decision.leave_out and source.class_names[split.labels[row]] not in (decision.label, decision.right_label):
        return "has another label now"
    return ""


def _require_classes(decided: DecidedLabels, before: Mapping[str, set[str]]) -> None:
    """Refuse to leave a class with test samples alone, no test part, or fewer than two classes."""
    train = decided.counts("train")
    if "test" in before and not decided.counts("test"):
        raise UsageError("decisions: no picture of the test part would be left: keep some")
    tested = decided.counts("test") if "test" in before else {}
    if emptied := [name for name in tested if name not in train and name in before["train"]]:
        raise UsageError(
            f"decisions: class {quote(emptied[0])} would keep test samples but no training sample: leave out its test "
            "samples too, or keep some training samples"
        )
    if len(train) < 2:
        raise UsageError("decisions: at least two classes must keep training samples; all other classes are left out")
