"""Selectors: (scores, count, seed) -> Coreset. One file per family, one line of `SELECTORS` per selector."""

import os
import typing
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from easycoreset.console import log
from easycoreset.errors import EasycoresetWarning, UsageError, describe_error, quote, require
from easycoreset.files import SCHEMA_VERSION, make_writable_folder, write_json
from easycoreset.members import load_member, spell_member, split_spec
from easycoreset.options import SelectOptions, accept_options, options_json
from easycoreset.options.objects import MEMBER, name_objects
from easycoreset.paths import is_plain_file, sha256_of_file
from easycoreset.records import read_record
from easycoreset.selection.published import read_published, read_sample_list
from easycoreset.selection.recall_quota import OPTIONS as QUOTA_OPTIONS
from easycoreset.selection.recall_quota import Recall, RecallQuota
from easycoreset.tables import Coreset, Scores, kept_count
from easycoreset.tables.coreset import find_lost_classes
from easycoreset.tables.foreign_features import with_features
from easycoreset.tables.holdout import hold_out
from easycoreset.user_modules import is_user_spec
from easycoreset.versions import versions

SELECTORS = {
    "easycore": "easycoreset.selection.extremes:EasyCore",
    "easiest": "easycoreset.selection.extremes:Easiest",
    "middle": "easycoreset.selection.extremes:Middle",
    "hardest": "easycoreset.selection.extremes:Hardest",
    "random": "easycoreset.selection.uniform:Random",
    "ccs": "easycoreset.selection.strata:CCS",
    "stratified": "easycoreset.selection.strata:Stratified",
    "moderate": "easycoreset.selection.moderate:Moderate",
    "prototypes": "easycoreset.selection.prototypes:Prototypes",
    "herding": "easycoreset.selection.greedy:Herding",
    "kcenter": "easycoreset.selection.greedy:KCenter",
    "facility": "easycoreset.selection.submodular:Facility",
    "graphcut": "easycoreset.selection.submodular:GraphCut",
    "craig": "easycoreset.selection.submodular:CRAIG",
    "gradmatch": "easycoreset.selection.gradmatch:GradMatch",
    "glister": "easycoreset.selection.glister:Glister",
    "cal": "easycoreset.selection.neighbours:CAL",
    "d2": "easycoreset.selection.neighbours:D2",
    "slocurves": "easycoreset.selection.extremes:SLoCurves",
    "el2n": "easycoreset.selection.columns:EL2N",
    "grand": "easycoreset.selection.columns:GraNd",
    "forgetting": "easycoreset.selection.columns:Forgetting",
    "aum": "easycoreset.selection.columns:AUM",
    "loss": "easycoreset.selection.columns:Loss",
    "uncertainty": "easycoreset.selection.columns:Uncertainty",
    "vog": "easycoreset.selection.columns:VoG",
    "entropy": "easycoreset.selection.columns:Entropy",
    "least_confidence": "easycoreset.selection.columns:LeastConfidence",
    "prob_gap": "easycoreset.selection.columns:ProbGap",
    "deepfool": "easycoreset.selection.columns:DeepFool",
    "dual": "easycoreset.selection.dual:Dual",
    "tdds": "easycoreset.selection.columns:TDDS",
    "double-end": "easycoreset.selection.extremes:DoubleEnd",
}


class Selector(Protocol):
    """Chooses `count` samples of a table; the same seed gives the same choice.

    Built-in selectors declare in `needs` the columns and arrays that they read, and in `cost` how their work grows
    with n rows and d features. Every method, including a user's, also takes `quota=recall` (see `RecallQuota`).
    """

    def __call__(self, scores: Scores, count: int, seed: int) -> Coreset:
        """Choose `count` samples of `scores`."""
        ...


def load_selector(method: str, by: str | None = None, per_class: bool | None = None) -> tuple[str, Selector]:
    """Load the selector `method`.

    Returns:
        The canonical spelling of the method, and the selector.

    Raises:
        UsageError: unknown method or option, or an option that does not apply.
    """
    name, options = split_spec(method)
    quota = {key: options.pop(key) for key in QUOTA_OPTIONS if key in options}
    spec = ":".join([name, *(f"{key}={value}" for key, value in options.items())])
    selector = load_member("method", spec, SELECTORS, by=by, per_class=per_class or None)
    spelled = spell_member(name, selector)
    if not quota:
        return spelled, selector
    require(quota.get("quota") == "recall", "quota", "recall, or left out", quota.get("quota"))
    recall = quota.get("recall", "clean")
    require(recall in ("clean", "robust"), "recall", "clean or robust", recall)
    ending = "" if recall == "clean" else f":recall={recall}"
    return f"{spelled}:quota=recall{ending}", RecallQuota(method=selector, recall=typing.cast(Recall, recall))


def choose(
    scores: Scores,
    *,
    method: "str | Selector",
    fraction: float,
    by: str | None = None,
    per_class: bool | None = None,
    seed: int = 0,
    val_fraction: float | None = None,
    exclude: Path | None = None,
    keep_leaked: bool = False,
    features: Path | None = None,
) -> Coreset:
    """Choose a coreset in memory.

    Args:
        scores: the table to choose from.
        method: `NAME[:key=value]...` of `SELECTORS`, `package.module:name`, or a selector.
        fraction: share of samples to keep, in (0, 1].
        by: column that easiest, hardest and the like rank by.
        per_class: keep the fraction within each class.
        seed: seed of ties and random draws.
        val_fraction: share held out for validation, as in `train`; `fraction` is of the rest.
        exclude: file with indices or sample ids to leave out; `fraction` is of the rest.
        keep_leaked: keep samples that are also in the test split; by default they are left out.
        features: file of features to use in place of those of the table: an .npy array [N, d] in index order, or a
            .parquet table with a column `sample_id` or `index`.

    Returns:
        The kept samples with their order and weights.

    Raises:
        UsageError: unknown method, column or option; fraction outside (0, 1]; a list of samples, a coreset or
            features that do not fit the table.
    """
    spec: str = name_objects(method, MEMBER, False)
    require(
        exclude is None or not spec.startswith("file:"),
        "exclude",
        "left out with method file:, which reads a finished coreset",
        exclude,
    )
    if features is not None:
        require_reads_features(spec, features)
        scores = with_features(scores, features)
    eligible = _eligible(scores, val_fraction, exclude)
    require(bool(eligible.any()), "exclude", "a list that does not exclude all samples", str(exclude))
    pool = eligible if scores.in_test is None or keep_leaked else eligible & ~scores.in_test
    if not pool.any():
        log.warning(
            "warning: all samples are also in the test split: none is left out, and evaluations are meaningless"
        )
        pool = eligible
    if not spec.startswith("file:") and not pool.all():
        if leaked := int(eligible.sum() - pool.sum()):
            log.warning(
                "warning: %d samples that are also in the test split are left out (keep_leaked keeps them)", leaked
            )
        rows = np.flatnonzero(pool).astype(np.int64)
        count = min(kept_count(fraction, int(eligible.sum())), len(rows))  # the fraction counts leaked samples too
        chosen = _choose(scores.take_rows(rows), spec, count, fraction, by, per_class, seed)
        facts = {"val_fraction": val_fraction, "excluded": int((~eligible).sum()), "leaked": leaked}
        return replace(chosen.to_full_table(rows, scores), provenance=chosen.provenance | facts)
    count = kept_count(fraction, len(scores))
    if spec.startswith("file:"):
        coreset = read_published(Path(spec[5:]), scores)
        require(len(coreset) == count, "fraction", f"{len(coreset) / len(scores):.6g}, as {spec} keeps", fraction)
        held_out = 0 if val_fraction is None else int(coreset.keep[hold_out(scores.labels, val_fraction)[1]].sum())
        require(
            held_out == 0,
            "method",
            "a coreset without any of the held-out rows (val_fraction)",
            f"{spec}, {held_out} rows",
        )
        in_test = 0 if scores.in_test is None else int(np.sum(coreset.keep & scores.in_test))
        if in_test:
            warnings.warn(f"{in_test} of the kept samples are also in the test split", EasycoresetWarning, stacklevel=2)
        return _finish(coreset, scores, spec, count, fraction, seed, ())
    return _choose(scores, spec, count, fraction, by, per_class, seed)


def _eligible(scores: Scores, val_fraction: float | None, exclude: Path | None) -> npt.NDArray[np.bool_]:
    """Which samples are neither held out nor excluded, [N]."""
    eligible = np.ones(len(scores), np.bool_)
    if val_fraction is not None:
        eligible[hold_out(scores.labels, val_fraction)[1]] = False
    return eligible if exclude is None else eligible & ~read_sample_list("exclude", exclude, scores).keep


def _choose(
    scores: Scores, method: str, count: int, fraction: float, by: str | None, per_class: bool | None, seed: int
) -> Coreset:
    """Choose `count` of the samples of a table, and finish the coreset."""
    name, selector = load_selector(method, by, per_class)
    needs = required_inputs(selector)
    if scores.provenance.get("labels") == "not given" and getattr(selector, "per_class", False):
        raise UsageError(f"{name} with per_class needs labels: pass them to recorder.scores(labels=...)")
    _require_values(scores, needs)
    try:
        chosen = selector(scores, count, seed)
    except Exception as error:
        if isinstance(error, UsageError) or not is_user_spec(name):
            raise
        raise UsageError(f"method {quote(name)} fails: {describe_error(error)}") from error
    return _finish(chosen, scores, name, count, fraction, seed, needs)


def _finish(
    coreset: Any, scores: Scores, name: str, count: int, fraction: float, seed: int, needs: tuple[str, ...] | None
) -> Coreset:
    """Check a method's coreset, add its provenance, and warn of lost classes and unobserved samples."""
    if not isinstance(coreset, Coreset) or len(coreset) != count:
        kept = len(coreset) if isinstance(coreset, Coreset) else type(coreset).__name__
        raise UsageError(
            f"method {quote(name)} must return a Coreset of {count} samples (Coreset.from_order); got {kept}"
        )
    before, after = coreset.class_counts()
    coreset.provenance.update(
        method=name,
        fraction=float(fraction),
        seed=seed,
        count=count,
        class_counts={"before": before.tolist(), "after": after.tolist()},
    )
    _warn_of_lost_classes(coreset)
    _warn_of_unobserved(coreset, scores, needs)
    return coreset


@accept_options(SelectOptions, temporary_out="coreset.parquet")
def select(options: SelectOptions) -> Coreset:
    """Choose a coreset from a score file and write it to `out`, with a JSON beside it.

    Returns:
        The kept samples with their order and weights.

    Raises:
        UsageError: invalid options, or `out` is a file that `select` did not write; nothing is written.
    """
    scores = Scores.read(options.scores)
    old_digest = _check_output(options.out)
    coreset = choose(
        scores,
        method=options.method,
        fraction=options.fraction,
        by=options.by,
        per_class=options.per_class,
        seed=options.seed,
        val_fraction=options.val_fraction,
        exclude=options.exclude,
        keep_leaked=options.keep_leaked,
        features=options.features,
    )
    make_writable_folder(options.out.parent)
    record = {
        "schema_version": SCHEMA_VERSION,
        "command": "select",
        "options": options_json(options),
        "provenance": coreset.provenance,
        "versions": versions(),
    }

    def write_record(temporary: Path) -> None:  # before the table, so that a killed process leaves both digests
        written = [sha256_of_file(temporary), *([old_digest] if old_digest else [])]
        write_json(options.out.with_suffix(".json"), record | {"written": written})

    coreset.write(options.out, write_record)
    return coreset


def _check_output(out: Path) -> str | None:
    """Refuse to replace files that `select` did not write; returns the digest of the coreset to be replaced.

    Raises:
        UsageError: the file is not a coreset or was changed since, or `select` did not write the JSON beside it.
    """
    json_file = out.with_suffix(".json")
    record: dict[str, Any] = {}
    if os.path.lexists(json_file):
        record = read_record(json_file) if is_plain_file(json_file) else {}
        require(
            record.get("command") == "select",
            "out",
            "a name whose .json does not exist, or was written by select",
            str(json_file),
        )
    if not os.path.lexists(out):
        return None
    digest = sha256_of_file(out) if is_plain_file(out) else ""
    if digest not in record.get("written", ()) and not _matches_record(out, digest, record):
        raise UsageError(f"out: {out} was not written by select, or was changed since; give another name")
    return digest


def _matches_record(out: Path, digest: str, record: dict[str, Any]) -> bool:
    """Whether a file is the coreset of a record of version 0.1, which has no digest."""
    return bool(digest) and "written" not in record and Coreset.read(out).provenance == record.get("provenance")


def required_inputs(selector: Selector) -> tuple[str, ...] | None:
    """The columns and arrays of the scores that a selector reads; None if a user's selector does not declare them."""
    needs = getattr(selector, "needs", None)
    return (needs,) if isinstance(needs, str) else needs


def require_reads_features(method: str, features: Path) -> None:
    """Refuse a file of features for a method that declares that it reads no features.

    Raises:
        UsageError: the method reads no features.
    """
    needs = () if method.startswith("file:") else required_inputs(load_selector(method)[1])
    reads = needs is None or "features" in needs
    require(reads, "features", f"left out with {method}, which reads none", str(features))


def _column_of(name: str, scores: Scores) -> str:
    """The column that a method reads: if `name` is missing, easycore reads the online column."""
    return name if name in scores.columns else f"{name}_online"


def _require_values(scores: Scores, needs: tuple[str, ...] | None) -> None:
    """Refuse a column that holds no value, because ranking by it would be random."""
    for column in (_column_of(name, scores) for name in needs or ()):
        if column in scores.columns and not np.isfinite(scores[column]).any():
            raise UsageError(f"column {quote(column)} must hold values; all {len(scores)} samples have none (NaN)")


def _warn_of_unobserved(coreset: Coreset, scores: Scores, needs: tuple[str, ...] | None) -> None:
    """Warn how many of the kept samples have no values in the columns that the method reads."""
    unobserved = np.zeros(len(scores), np.bool_)
    for name in needs or ():
        column = _column_of(name, scores)
        if column in scores.columns:
            unobserved |= np.isnan(scores[column])
    if needs is None and scores.columns:
        unobserved = scores.n_obs == 0
    kept = int(np.sum(unobserved & coreset.keep))
    if kept:
        warnings.warn(f"{kept} of the kept samples were never observed", EasycoresetWarning, stacklevel=3)


def _warn_of_lost_classes(coreset: Coreset) -> None:
    before, after = coreset.class_counts()
    names = coreset.provenance.get("class_names", [])
    labels = [names[k] if k < len(names) else str(k) for k in range(len(before))]
    emptied, starved = find_lost_classes(before, after)
    if len(emptied):
        text = ", ".join(labels[k] for k in emptied)
        warnings.warn(f"the coreset holds no sample of class {text}", EasycoresetWarning, stacklevel=3)
    if len(starved):
        text = ", ".join(f"{labels[k]} ({after[k]} of {before[k]})" for k in starved)
        warnings.warn(f"the coreset starves class {text}", EasycoresetWarning, stacklevel=3)
