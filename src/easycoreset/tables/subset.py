"""Tables of data that changed since: matched by `sample_id`, whatever was deleted, added or relabelled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.errors import UsageError, quote
from easycoreset.tables.coreset import Coreset
from easycoreset.tables.scores import ARRAYS, Ints, Rows, Scores, check_same_data


class SplitFacts(Protocol):
    """What is looked at of the data: a `Split` has it."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Ints: ...
    @property
    def sample_ids(self) -> Sequence[str]: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Match:
    """How a table meets the data.

    Attributes:
        rows: [N of the data] int64, each sample's row in the table; -1 where it is new.
        facts: matched, gone, new, relabelled: counts for the provenance.
        relabelled: [N] whether a sample has another label than the table says.
    """

    rows: Ints
    facts: dict[str, int]
    relabelled: npt.NDArray[np.bool_]


def match_scores(scores: Scores, split: SplitFacts, class_names: Sequence[str] = (), what: str = "scores") -> Scores:
    """The scores of the data as they are now; a table of just these data is given back as it is.

    Rows of samples that are gone are dropped, labels are the data's, new samples and those with another label than
    before (whose hardness was that of the old one) have NaN and `n_obs` 0. Features go along, unless there are new
    samples, which have none.

    Args:
        scores: made before.
        split: the data now.
        class_names: of the data, by which labels are compared; left out: labels are compared as numbers.
        what: the table's name, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, or none in common.
    """
    if is_of(scores.provenance, split):
        return scores
    match = match_ids(
        (scores.sample_ids, scores.labels, scores.class_names, scores.provenance), split, class_names, what
    )
    new = match.rows < 0
    unknown = new | match.relabelled
    columns = {
        name: np.where(unknown, np.float32(np.nan), values[match.rows]) for name, values in scores.columns.items()
    }
    kept = {
        name: None if new.any() or (array := getattr(scores, name)) is None else Rows(array, match.rows)
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
        **kept,
        in_test=None if scores.in_test is None else (match.rows >= 0) & scores.in_test[match.rows],
        features_problem=scores.features_problem or problem,
    )


def match_coreset(
    coreset: Coreset, split: SplitFacts, class_names: Sequence[str] = (), what: str = "coreset"
) -> Coreset:
    """The coreset in the data as they are now: what is left of it, in its order; new samples are not kept.

    Args:
        coreset: chosen before.
        split: the data now.
        class_names: of the data, by which labels are compared; left out: labels are compared as numbers.
        what: the table's name, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, none in common, or no kept sample left.
    """
    if is_of(coreset.provenance, split):
        return coreset
    known = coreset.provenance.get("class_names", ())
    match = match_ids((coreset.sample_ids, coreset.labels, known, coreset.provenance), split, class_names, what)
    keep = (match.rows >= 0) & coreset.keep[match.rows]
    if not keep.any():
        raise UsageError(f"{what}: none of its {len(coreset)} samples is left in the data")
    order = np.flatnonzero(keep)[np.argsort(coreset.rank[match.rows[keep]], kind="stable")]
    rank = np.full(len(keep), -1, np.int64)
    rank[order] = np.arange(len(order))
    weight = np.full(len(keep), np.nan, np.float32)
    left = coreset.weight[match.rows[keep]]
    mean = np.mean(left, dtype=np.float64)
    weight[keep] = left / mean if mean > 0 else left
    facts = _provenance(coreset.provenance, split, match)
    found = Coreset(
        keep=keep, rank=rank, weight=weight, sample_ids=list(split.sample_ids), labels=split.labels, provenance=facts
    )
    if class_names:
        facts["class_names"] = list(class_names)
    if "class_counts" in facts:
        before, after = found.class_counts()
        facts["class_counts"] = {"before": before.tolist(), "after": after.tolist()}
    return found


def require_same_data(coreset: Coreset | Scores, split: SplitFacts, what: str) -> None:
    """Refuse a coreset or scores of other data; where some samples are the same, say what would match them.

    Raises:
        UsageError: other data; the counts are named.
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


def is_of(provenance: dict[str, Any], split: SplitFacts) -> bool:
    """Whether a table is of just these data."""
    return (provenance.get("fingerprint"), provenance.get("split", split.name)) == (split.fingerprint, split.name)


def match_ids(
    own: tuple[Sequence[str], Ints, Sequence[str], dict[str, Any]],
    split: SplitFacts,
    class_names: Sequence[str],
    what: str,
) -> Match:
    """Find the data's samples in a table by their ids, and log the counts in one line.

    Args:
        own: the table's sample ids, labels, class names and provenance.
        split: the data.
        class_names: of the data; () where they are not known.
        what: the table's name, for messages.

    Raises:
        UsageError: another split, sample ids that are not unique, or none in common.
    """
    ids, labels, names, provenance = own
    if provenance.get("split", split.name) != split.name:
        raise UsageError(f"{what} is of split {quote(provenance['split'])}; needed is {quote(split.name)}")
    places = _places(ids, what)
    _places(split.sample_ids, "the data")
    rows = np.array([places.get(name, -1) for name in split.sample_ids], np.int64)
    shared = rows >= 0
    if not shared.any():
        raise UsageError(
            f"{what} and the data have no sample_id in common (as {quote(ids[0])} and {quote(split.sample_ids[0])})"
        )
    before = labels[rows[shared]]
    now = split.labels[shared]
    changed = before != now
    if names and class_names:
        changed = _named(names, before) != _named(class_names, now)
    now_other = np.zeros(len(rows), np.bool_)
    now_other[shared] = changed
    matched = int(shared.sum())
    relabelled = int(changed.sum())
    facts = {"matched": matched, "gone": len(ids) - matched, "new": int((~shared).sum()), "relabelled": relabelled}
    log.info(
        "%s: matched by sample_id: %s of %s samples; %s gone, %s new, %s relabelled",
        what,
        *(f"{n:,}" for n in (matched, len(ids), facts["gone"], facts["new"], relabelled)),
    )
    return Match(rows, facts, now_other)


def _places(ids: Sequence[str], what: str) -> dict[str, int]:
    places: dict[str, int] = {}
    for row, name in enumerate(ids):
        if places.setdefault(name, row) != row:
            raise UsageError(f"{what}: sample ids must be there once each to be matched; {quote(name)} is there again")
    return places


def _named(names: Sequence[str], labels: Ints) -> Any:
    """The names of labels, a number's own digits where it has none."""
    return np.array(
        [names[label] if label < len(names) else str(label) for label in cast("list[int]", labels.tolist())]
    )


def _provenance(facts: dict[str, Any], split: SplitFacts, match: Match) -> dict[str, Any]:
    before = facts.get("fingerprint")
    return {**facts, "fingerprint": split.fingerprint, "split": split.name, "matched": {**match.facts, "from": before}}
