"""Dynamic methods choose the samples of each epoch before it begins. One file per family, one line each below."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.members import find_member, load_member, spell_member, split_spec
from easycoreset.selection import SELECTORS, Selector, load_selector
from easycoreset.selection.geometry import GradientSum
from easycoreset.tables import Coreset, Floats, Ints, Scores, kept_count
from easycoreset.user_modules import is_user_spec

DYNAMIC_METHODS = {
    "rs2": "easycoreset.dynamic.rs2:RS2",
    "infobatch": "easycoreset.dynamic.infobatch:InfoBatch",
    "reselect": "easycoreset.dynamic.reselect:Reselect",
    "acs-craig": "easycoreset.dynamic.acs:ACSCraig",
    "acs-gradmatch": "easycoreset.dynamic.acs:ACSGradMatch",
    "easiest-now": "easycoreset.dynamic.present:EasiestNow",
    "self-paced": "easycoreset.dynamic.present:SelfPaced",
    "seta": "easycoreset.dynamic.seta:SeTa",
}
LOSS = "objective_loss_online"  # the recorder's column of each sample's loss, as a step minimises it


@dataclass(frozen=True)
class EpochChoice:
    """What an epoch trains on.

    Attributes:
        rows: [m] rows of the pool; one that comes twice is trained on twice.
        weight: [m] weights of their losses, or None for 1.
        since: the epoch in which they were chosen, for methods that keep a choice for several epochs; else 0.
        values: [n] the values by which all rows were ranked, for methods that use them again; None for others.
    """

    rows: Ints
    weight: Floats | None = None
    since: int = 0
    values: Floats | None = None

    @classmethod
    def from_coreset(cls, coreset: Coreset, since: int) -> "EpochChoice":
        """The rows that a static method kept, with their weights."""
        rows = coreset.index
        weight = coreset.weight[rows]
        return cls(rows, None if (weight == 1).all() else weight, since)


class Passes(Protocol):
    """Passes over all rows of the pool with the present model, in eval mode, without augmentation; each is counted."""

    def refresh(self, column: str, clean: bool) -> Floats:
        """Measure the present values [n] of a column: the objective's loss with its attack, unless `clean`."""
        ...

    def table(self, selector: Selector) -> Scores:
        """The columns and arrays that a static method reads, of the present model alone."""
        ...

    def gradients(self) -> GradientSum:
        """The gradients of the objective's loss of each row with respect to the last linear layer."""
        ...


@dataclass(frozen=True, kw_only=True)
class EpochState:
    """What is known before an epoch.

    The pool is all training samples but those held out for validation; a row is a position in it.

    Attributes:
        labels: [n] labels of the pool.
        fraction: the share of the pool to train on in an epoch; None if it was not given.
        seed: of all draws.
        epoch: from 1.
        progress: the share of the budget that is done, in [0, 1).
        batch_size: samples of a step.
        present: present values of each recorded column, [n]: those of the last epoch that trained on the row, or NaN.
        previous: what the last epoch trained on; None in the first.
        passes: passes with the present model; None in a loop that has not given its model.
    """

    labels: Ints
    fraction: float | None
    seed: int
    epoch: int
    progress: float
    batch_size: int
    present: Mapping[str, Floats]
    previous: EpochChoice | None = None
    passes: Passes | None = None

    @property
    def count(self) -> int:
        """The number of rows that the fraction of the pool gives."""
        require(self.fraction is not None, "fraction", "given for this method", None)
        return kept_count(self.fraction or 0, len(self.labels))

    @property
    def everything(self) -> EpochChoice:
        """All rows of the pool."""
        return EpochChoice(np.arange(len(self.labels), dtype=np.int64))

    def rng(self, *keys: int) -> np.random.Generator:
        """Random numbers that depend on the seed and on `keys` alone."""
        return np.random.default_rng([self.seed, *keys])

    def values(self, column: str) -> Floats:
        """Present values of a recorded column, [n]; all NaN before the first epoch.

        Raises:
            UsageError: the column is not recorded.
        """
        if column not in self.present:
            raise UsageError(f"{quote(column)} is not recorded here: {suggest_name(column, self.present)}")
        return self.present[column]

    def require_passes(self, method: str) -> Passes:
        """The passes.

        Raises:
            UsageError: there are none.
        """
        if self.passes is None:
            raise UsageError(f"{method} needs passes over the data: give the sampler model= and data=")
        return self.passes

    def without_scores(self) -> Scores:
        """The pool as a table without any column, for helpers of static methods."""
        return pool_table(self.labels, {})


def pool_table(labels: Ints, columns: Mapping[str, Floats], **facts: Any) -> Scores:
    """A table of the pool, with columns of the present model; `facts` are further fields of `Scores`."""
    n = len(labels)
    return Scores(
        sample_ids=[str(row) for row in range(n)],
        labels=labels,
        class_names=[str(label) for label in range(int(labels.max()) + 1)],
        n_obs=np.full(n, bool(columns), np.int32),
        columns=dict(columns),
        **facts,
    )


class DynamicMethod(Protocol):
    """Chooses what an epoch trains on; the same state gives the same choice.

    A method may declare further attributes, so that a missing input is found before training. `columns` are the
    recorded columns that it reads (by default the objective's loss). `takes_fraction` is True if the user must give the
    share to train on, and False if the user must not (by default the user may). `has_weights` says whether its choices
    have weights (by default they may). `uses_gradients` says whether it uses gradients, and `refreshes` whether it
    renews its `columns` by passes. `selector()` returns the static method that it uses.
    """

    def __call__(self, state: EpochState) -> EpochChoice:
        """Choose the rows of the epoch `state.epoch`."""
        ...


def load_dynamic_method(spec: str) -> tuple[str, DynamicMethod]:
    """Load a dynamic method; return its canonical spelling and the method.

    Raises:
        UsageError: unknown method or option.
    """
    name = split_spec(spec)[0]
    if name in SELECTORS:
        raise UsageError(
            f"method {quote(name)} chooses once, before training: run `select` with it and give --coreset, "
            f"or train with reselect:method={name}"
        )
    if not is_dynamic(spec) and is_user_spec(spec):
        raise UsageError(
            f"method {quote(name)} must take one argument, the state; one of (scores, count, seed) is static"
        )
    method: Any = load_member("method", spec, DYNAMIC_METHODS)
    return spell_member(name, method), method


def has_own_share(method: DynamicMethod) -> bool:
    """Whether a method determines the share that it trains on itself, so that no fraction may be given."""
    return getattr(method, "takes_fraction", None) is False


def check_fraction(name: str, method: DynamicMethod, fraction: float | None) -> None:
    """Check whether a fraction is given, by what the method takes.

    Raises:
        UsageError: a fraction is given that the method does not take, or the method needs one.
    """
    require(
        fraction is None or not has_own_share(method), "fraction", f"left out: {name} sets the share itself", fraction
    )
    lacks = fraction is None and getattr(method, "takes_fraction", False)
    require(not lacks, "fraction", f"given for {name}", fraction)


def is_dynamic(spec: str) -> bool:
    """Whether a method chooses each epoch: one of `DYNAMIC_METHODS`, or a user's that takes one argument, the state."""
    name = split_spec(spec)[0]
    if name in DYNAMIC_METHODS or not is_user_spec(spec):
        return name in DYNAMIC_METHODS
    member = find_member("method", name, {})
    call = member.__call__ if isinstance(member, type) else member
    parameters = [p for p in inspect.signature(call).parameters.values() if p.name != "self"]
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) == 1


def require_static(spec: str) -> None:
    """Refuse a dynamic method where a static one must choose a coreset.

    Raises:
        UsageError: the method is dynamic.
    """
    rule = "one that chooses once, before training; `train --method` and `compare` take those that choose in each epoch"
    require(not is_dynamic(spec), "method", rule, spec)


def canonical_method(spec: str) -> str:
    """The canonical spelling of a method, dynamic or static."""
    return (load_dynamic_method(spec) if is_dynamic(spec) else load_selector(spec))[0]


def columns_of(method: DynamicMethod) -> tuple[str, ...]:
    """The recorded columns that a method reads, the objective's loss always among them."""
    return tuple(dict.fromkeys([LOSS, *getattr(method, "columns", ())]))


def check_choice(choice: Any, n: int, name: str) -> EpochChoice:
    """Check what a method returned: an `EpochChoice`, or only rows, or a tuple of its fields, from a user's method.

    Raises:
        UsageError: it holds no row, a row outside of the pool, or weights that are not finite, negative or all 0.
    """
    if not isinstance(choice, EpochChoice):
        choice = EpochChoice(*choice) if isinstance(choice, tuple) else EpochChoice(choice)
    rows = np.asarray(choice.rows)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise UsageError(f"method {quote(name)} must return rows, integers [m] with m >= 1; got {quote(choice.rows)}")
    if rows.min() < 0 or rows.max() >= n:
        raise UsageError(f"method {quote(name)} must return rows in 0..{n - 1}; got {rows.min()}..{rows.max()}")
    if choice.weight is None:
        return EpochChoice(rows.astype(np.int64), None, choice.since, choice.values)
    weight = np.asarray(choice.weight, np.float32)
    if weight.shape != rows.shape or not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        rule = f"weights, one of each of its {len(rows)} rows, finite, >= 0 and not all 0"
        raise UsageError(f"method {quote(name)} must return {rule}; got {quote(choice.weight)}")
    return EpochChoice(rows.astype(np.int64), weight, choice.since, choice.values)
