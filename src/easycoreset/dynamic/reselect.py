"""A static method, applied anew every few epochs to what the present model gives."""

from dataclasses import dataclass
from typing import ClassVar

from easycoreset.dynamic import EpochChoice, EpochState
from easycoreset.errors import require
from easycoreset.selection import Selector, load_selector


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Train on all data until the share `warm` of the budget is done; then choose a subset every `every` epochs."""

    every: int = 20
    warm: float = 0.0

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", ">= 1", self.every)
        require(0 <= self.warm < 1, "warm", "in [0, 1)", self.warm)

    def kept(self, state: EpochState) -> EpochChoice | None:
        """What the epoch trains on if nothing is chosen before it: all data, or the last subset; else None."""
        if state.progress < self.warm:
            return state.everything
        previous = state.previous
        is_kept = previous is not None and previous.since > 0 and state.epoch - previous.since < self.every
        return previous if is_kept else None


@dataclass(frozen=True, kw_only=True)
class Reselect(Schedule):
    """Repeats a static method on the present model's columns and features, as in CRAIG, GradMatch and GLISTER.

    `method` is any static method that reads the values of one epoch, with `/` for `:` (`method=ccs/by=aum/beta=0.1`).
    """

    takes_fraction: ClassVar[bool] = True
    has_weights: ClassVar[bool] = True
    method: str = "craig"

    def __post_init__(self) -> None:
        super().__post_init__()
        is_file = self.method.replace(":", "/").partition("/")[0] == "file"
        require(not is_file, "method", "one that chooses, not a finished coreset", self.method)
        name = load_selector(self.method.replace("/", ":"))[0]
        object.__setattr__(self, "method", name.replace(":", "/"))  # one spelling, so that it is one row of a table

    def selector(self) -> Selector:
        """The static method."""
        return load_selector(self.method.replace("/", ":"))[1]

    def __call__(self, state: EpochState) -> EpochChoice:
        kept = self.kept(state)
        if kept is not None:
            return kept
        selector = self.selector()
        table = state.require_passes("reselect").table(selector)
        return EpochChoice.from_coreset(selector(table, state.count, state.seed), state.epoch)
