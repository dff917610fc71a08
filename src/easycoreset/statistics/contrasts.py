"""A contrast between two rows of a grid: gain, interval, verdict, and what it says in a sentence."""

from dataclasses import dataclass, field

import numpy as np

from easycoreset.console import say_eps, say_share
from easycoreset.statistics.intervals import NAN, Estimate
from easycoreset.statistics.planned import EQUAL, FULL, PlannedContrast

MARGIN = 0.01  # within which no difference is claimed
ENOUGH_SEEDS = 5
ENOUGH_IMAGES = 100
ALPHA = 0.05
SAID = {
    "gain": "gains over",
    "loss": "loses to",
    "inconclusive": "is inconclusive against",
    "no difference": "shows no difference from",
}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What is known of a contrast.

    Attributes:
        plan: the two rows, their setting and the radius.
        declared: by the first start, before a cell that it rests on was evaluated; else it is exploratory.
        primary: it is tested alone, and the other declared ones claim only if it does.
        note: of an exploratory one, when and why it came later; empty where nobody named it.
        gains: seed -> gain in robust accuracy.
        lacking: declared seeds that are not done.
        off: seeds whose own clean accuracy lies beyond random's frontier.
        problem: why it is not measurable; empty where it is.
        estimate: mean and interval over the seeds.
        p_holm: corrected over the declared family; of the primary contrast its own p; NaN where exploratory.
        held_back: a declared one whose primary contrast claims nothing.
        sign_flip_p: exact, over the seeds' signs.
        extreme: the seed whose gain lies farthest from the mean.
        without_extreme: the estimate without that seed; None where fewer than three seeds are there.
        strong: strong attack -> the estimate under it, on fewer images.
    """

    plan: PlannedContrast
    declared: bool
    primary: bool = False
    note: str = ""
    gains: dict[int, float] = field(default_factory=dict[int, float])
    lacking: tuple[int, ...] = ()
    off: tuple[int, ...] = ()
    problem: str = ""
    estimate: Estimate | None = None
    p_holm: float = NAN
    held_back: bool = False
    sign_flip_p: float = NAN
    extreme: int | None = None
    without_extreme: Estimate | None = None
    strong: dict[str, Estimate] = field(default_factory=dict[str, Estimate])

    @property
    def method(self) -> str:
        """Of the row."""
        return self.plan.method

    @property
    def against(self) -> str:
        """Of the other row."""
        return self.plan.against

    @property
    def gain(self) -> float:
        """Mean over the seeds; NaN where there is none."""
        return NAN if self.estimate is None else self.estimate.mean

    @property
    def low(self) -> float:
        """Of the 95% interval."""
        return NAN if self.estimate is None else self.estimate.low

    @property
    def high(self) -> float:
        """Of the 95% interval."""
        return NAN if self.estimate is None else self.estimate.high

    @property
    def p(self) -> float:
        """Two-sided, not corrected."""
        return NAN if self.estimate is None else self.estimate.p

    @property
    def provisional(self) -> bool:
        """Whether declared seeds are missing."""
        return bool(self.lacking)

    @property
    def verdict(self) -> str:
        """gain, loss, no difference (0 in an interval within one point), inconclusive, provisional, not measurable.

        A declared gain or loss must also stand after Holm's correction, and after the primary contrast.
        """
        if self.declared and self.provisional:
            return "provisional"
        if not np.isfinite(self.low):
            return "not measurable"
        if self.low <= 0 <= self.high:
            return "no difference" if self.low >= -MARGIN and self.high <= MARGIN else "inconclusive"
        if self.declared and (self.held_back or not self.p_holm < ALPHA):
            return "inconclusive"
        return "gain" if self.low > 0 else "loss"

    def sentence(self) -> str:
        """The setting, the verdict and the figures that it rests on."""
        plan = self.plan
        place = f"{plan.objective}, {say_share(plan.fraction)} kept, eps {say_eps(plan.eps)}"
        how = "at the same budget" if plan.kind == EQUAL else "at the same clean accuracy"
        other = "all data" if plan.against == FULL else plan.against
        lead = "Primary contrast: " if self.primary else ""
        if self.verdict in ("provisional", "not measurable"):
            return f"{lead}{place}: {plan.method} against {other} {how}{_unfinished(self)}"
        return f"{lead}{place}: {plan.method} {SAID[self.verdict]} {other} {how}: {_figures(self)}.{_doubts(self)}"


def say_points(value: float) -> str:
    """A gain in points, with its sign.

    >>> say_points(0.0234), say_points(-0.005)
    ('+2.3', '-0.5')
    """
    return f"{100 * value:+.1f}"


def _figures(contrast: Contrast) -> str:
    """Gain, interval, seeds, and how p was corrected."""
    seeds = f"{len(contrast.gains)} seeds"
    corrected = "p" if contrast.primary else "Holm's p"
    tested = f"{corrected} {contrast.p_holm:.3g}" if contrast.declared else "exploratory"
    interval = f"95% interval {say_points(contrast.low)} to {say_points(contrast.high)}"
    return f"{say_points(contrast.gain)} points ({interval}, {seeds}, {tested}{contrast.note and f': {contrast.note}'})"


def _unfinished(contrast: Contrast) -> str:
    """Why there is no verdict."""
    done = len(contrast.plan.seeds) - len(contrast.lacking)
    planned = len(contrast.plan.seeds)
    if contrast.declared and contrast.provisional:
        so_far = f"{say_points(contrast.gain)} points so far; " if contrast.gains else ""
        return f" is provisional: {so_far}{done} of {planned} seeds are done."
    if contrast.problem:
        return f" is not measurable: {contrast.problem}."
    one = (
        "one seed has no interval"
        if len(contrast.gains) == 1
        else "all seeds gain the same, so that there is no interval"
    )
    return f": {say_points(contrast.gain)} points, but {one}."


def _doubts(contrast: Contrast) -> str:
    """What else must be known of a verdict."""
    said: list[str] = []
    if contrast.held_back and contrast.verdict == "inconclusive":
        said.append("The primary contrast claims nothing, so this one cannot.")
    if contrast.off:
        said.append(f"{len(contrast.off)} of its seeds lie beyond random's frontier.")
    if len(contrast.gains) < ENOUGH_SEEDS:
        said.append("A first look.")
    if contrast.estimate is not None and contrast.estimate.images < ENOUGH_IMAGES:
        said.append(f"Only {contrast.estimate.images} test images: too few for an interval that can be trusted.")
    return "".join(f" {text}" for text in said)
