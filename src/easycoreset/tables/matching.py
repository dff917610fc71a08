"""Match tables by `sample_id` to data whose samples were deleted, added or relabelled since."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.tables.coreset import Coreset
from easycoreset.tables.same_data import Ints, check_same_data
from easycoreset.tables.scores import ARRAYS, LazyRows, Scores


class SplitFacts(Protocol):
    """The attributes of a `Split` that are used here."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Ints: ...
    @property
    def sample_ids(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...


Digests = tuple[Sequence[bytes], Sequence[bytes]]


@dataclass(frozen=True)
class Match:
    """The match of a table with the data.

    Attributes:
        rows: [N of the data] int64, each sample's row in the table; -1 if it is new.
        facts: counts for the provenance: matched, gone, new, relabelled.
        relabelled: [N] whether a sample's label differs from the table's.
    """

    rows: Ints
    facts: dict[str, int]
    relabelled: npt.NDArray[np.bool_]


def match_scores(scores: Scores, split: SplitFacts, class_names: Sequence[str] = (), what: str = "scores") -> Scores:
    """The scores of the current data; a table of exactly these data is returned unchanged.

    Rows of deleted samples are dropped and labels are the data's; new and relabelled samples (whose hardness was that
    of the old label) get NaN and `n_obs` 0. Features are kept unless there are new samples, which have none.

    Args:
        scores: scores of the earlier data.
        split: the current data.
        class_names: class names of the data, to compare labels by name; if left out, labels are compared as numbers.
        what: name of the table, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, or none in common.
    """
    if is_same_data(scores.provenance, split):
        return scores
    match = match_ids(
        (scores.sample_ids, scores.labels, scores.class_names, scores.provenance), split, class_names, what
    )
    return take_matched(scores, split, class_names, match, what)


def take_matched(
    scores: Scores, split: SplitFacts, class_names: Sequence[str], match: Match, what: str = "scores"
) -> Scores:
    """The scores of the current data, by a match of its samples with the table; see `match_scores`."""
    new = match.rows < 0
    unknown = new | match.relabelled
    columns = {
        name: np.where(unknown, np.float32(np.nan), values[match.rows]) for name, values in scores.columns.items()
    }
    arrays = {
        name: None if new.any() or (array := getattr(scores, name)) is None else LazyRows(array, match.rows)
        for name in ARRAYS
    }
    problem = f"{what}: {int(new.sum())} new samples have no features: score the data again" if new.any() else ""
    return replace(
        scores,
        sample_ids=list(split.sample_ids),
        labels=split.labels,
        columns=columns,
        class_names=list(class_names) or scores.class_names,
        n_obs=np.where(unknown, 0, scores.n_obs[match.rows]).astype(np.int32),
        provenance=_provenance(scores.provenance, split, match),
        **arrays,
        in_test=None if scores.in_test is None else (match.rows >= 0) & scores.in_test[match.rows],
        features_problem=scores.features_problem or problem,
    )


def match_coreset(
    coreset: Coreset, split: SplitFacts, class_names: Sequence[str] = (), what: str = "coreset"
) -> Coreset:
    """The coreset in the current data: its remaining samples in their order; new samples are not kept.

    Args:
        coreset: coreset of the earlier data.
        split: the current data.
        class_names: class names of the data, to compare labels by name; if left out, labels are compared as numbers.
        what: name of the table, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, none in common, or no kept sample left.
    """
    if is_same_data(coreset.provenance, split):
        return coreset
    old_names = coreset.provenance.get("class_names", ())
    match = match_ids((coreset.sample_ids, coreset.labels, old_names, coreset.provenance), split, class_names, what)
    keep = (match.rows >= 0) & coreset.keep[match.rows]
    if not keep.any():
        raise UsageError(f"{what}: none of its {len(coreset)} samples is left in the data")
    order = np.flatnonzero(keep)[np.argsort(coreset.rank[match.rows[keep]], kind="stable")]
    rank = np.full(len(keep), -1, np.int64)
    rank[order] = np.arange(len(order))
    weight = np.full(len(keep), np.nan, np.float32)
    kept_weight = coreset.weight[match.rows[keep]]
    mean = np.mean(kept_weight, dtype=np.float64)
    weight[keep] = kept_weight / mean if mean > 0 else kept_weight
    provenance = _provenance(coreset.provenance, split, match)
    matched = Coreset(
        keep=keep,
        rank=rank,
        weight=weight,
        sample_ids=list(split.sample_ids),
        labels=split.labels,
        provenance=provenance,
    )
    if class_names:
        provenance["class_names"] = list(class_names)
    if "class_counts" in provenance:
        before, after = matched.class_counts()
        provenance["class_counts"] = {"before": before.tolist(), "after": after.tolist()}
    return matched


def require_same_data(coreset: Coreset | Scores, split: SplitFacts, what: str) -> None:
    """Refuse a coreset or scores of other data; if some samples are shared, the message names --allow-subset.

    Raises:
        UsageError: other data; the message has the counts.
    """
    try:
        check_same_data(
            coreset.provenance,
            split.fingerprint,
            split.name,
            what,
            (coreset.sample_ids, coreset.labels),
            (split.sample_ids, split.labels),
        )
    except UsageError as error:
        shared = len(set(coreset.sample_ids) & set(split.sample_ids))
        if not shared:
            raise
        raise UsageError(f"{error}; {shared} sample ids are in both (--allow-subset matches them)") from None


def is_same_data(provenance: dict[str, Any], split: SplitFacts) -> bool:
    """Whether a table is of exactly these data."""
    return (provenance.get("fingerprint"), provenance.get("split", split.name)) == (split.fingerprint, split.name)


def match_ids(
    table: tuple[Sequence[str], Ints, Sequence[str], dict[str, Any]],
    split: SplitFacts,
    class_names: Sequence[str],
    what: str,
) -> Match:
    """Find the data's samples in a table by their sample ids, and log the counts in one line.

    Args:
        table: sample ids, labels, class names and provenance of the table.
        split: the data.
        class_names: class names of the data; () if they are not known.
        what: name of the table, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, or none in common.
    """
    ids, labels, names, provenance = table
    if provenance.get("split", split.name) != split.name:
        raise UsageError(f"{what} is of split {quote(provenance['split'])}; split {quote(split.name)} is needed")
    row_of = _rows_by_id(ids, what)
    _rows_by_id(split.sample_ids, "the data")
    rows = np.array([row_of.get(name, -1) for name in split.sample_ids], np.int64)
    shared = rows >= 0
    if not shared.any():
        raise UsageError(
            f"{what} and the data have no sample_id in common (as {quote(ids[0])} and {quote(split.sample_ids[0])})"
        )
    before = labels[rows[shared]]
    now = split.labels[shared]
    changed = before != now
    if names and class_names:
        changed = _label_names(names, before) != _label_names(class_names, now)
    relabelled = np.zeros(len(rows), np.bool_)
    relabelled[shared] = changed
    facts = _count_matches(rows, relabelled, len(ids))
    log.info(
        "%s: matched by sample_id: %s of %s samples; %s gone, %s new, %s relabelled",
        what,
        *(f"{n:,}" for n in (facts["matched"], len(ids), facts["gone"], facts["new"], facts["relabelled"])),
    )
    return Match(rows, facts, relabelled)


def match_contents(scores: Scores, split: SplitFacts, class_names: Sequence[str], digests: Digests) -> Match:
    """Find the data's samples in a table by their contents; among copies, those with the same label match first.

    Args:
        scores: the table.
        split: the data.
        class_names: class names of the data.
        digests: digests of the content of each sample of the table, and of each sample of the data.
    """
    then = [scores.class_names[label] for label in scores.labels.tolist()]
    now = [class_names[label] for label in split.labels.tolist()]
    free: dict[Any, list[int]] = {}
    for row, key in reversed(list(enumerate(zip(digests[0], then, strict=True)))):
        free.setdefault(key, []).append(row)
    rows = np.full(len(now), -1, np.int64)
    for row, key in enumerate(zip(digests[1], now, strict=True)):
        if free.get(key):
            rows[row] = free[key].pop()
    left: dict[Any, list[int]] = {}
    for (digest, _), found in free.items():
        left.setdefault(digest, []).extend(found)
    relabelled = np.zeros(len(now), np.bool_)
    for row in np.flatnonzero(rows < 0).tolist():
        if left.get(digests[1][row]):
            rows[row] = left[digests[1][row]].pop()
            relabelled[row] = True
    return Match(rows, _count_matches(rows, relabelled, len(then)), relabelled)


def _count_matches(rows: Ints, relabelled: npt.NDArray[np.bool_], before: int) -> dict[str, int]:
    """The counts of a match of a table of `before` samples, for provenance."""
    matched = int((rows >= 0).sum())
    new = len(rows) - matched
    return {"matched": matched, "gone": before - matched, "new": new, "relabelled": int(relabelled.sum())}


def _rows_by_id(ids: Sequence[str], what: str) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, name in enumerate(ids):
        if row_of.setdefault(name, row) != row:
            raise UsageError(f"{what}: sample ids must be unique to be matched; {quote(name)} occurs twice")
    return row_of


def _label_names(names: Sequence[str], labels: Ints) -> Any:
    """The class names of labels; the number itself if it has no name."""
    return np.array(
        [names[label] if label < len(names) else str(label) for label in cast("list[int]", labels.tolist())]
    )


def _provenance(provenance: dict[str, Any], split: SplitFacts, match: Match) -> dict[str, Any]:
    before = provenance.get("fingerprint")
    return {
        **provenance,
        "fingerprint": split.fingerprint,
        "split": split.name,
        "matched": {**match.facts, "from": before},
    }
