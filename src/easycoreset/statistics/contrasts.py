"""A contrast between two rows of a grid: its gain, interval and verdict, and a sentence that states them."""

from dataclasses import dataclass, field

import numpy as np

from easycoreset.console import format_eps
from easycoreset.options.comparing import FULL
from easycoreset.statistics.intervals import NAN, Estimate
from easycoreset.statistics.planned_contrasts import EQUAL_UPDATES, PlannedContrast
from easycoreset.statistics.settings import describe_share

EQUIVALENCE_MARGIN = 0.01  # accuracy; an interval that contains 0 and stays within this distance is no difference
ENOUGH_SEEDS = 5
ENOUGH_IMAGES = 100
ALPHA = 0.05
VERDICT_PHRASES = {
    "gain": "gains over",
    "loss": "loses to",
    "inconclusive": "is inconclusive against",
    "no difference": "shows no difference from",
}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A contrast and its measured figures.

    Attributes:
        plan: the two rows, their setting and the radius.
        declared: whether the first start declared it before its cells were evaluated; otherwise it is exploratory.
        primary: whether it is tested alone at 5%; other declared contrasts can be a gain or a loss only if it is one.
        note: when and why an exploratory contrast was added; empty where no start named it.
        gains: seed -> gain in robust accuracy.
        clean: mean clean accuracy of the two rows over the same seeds, at the same budget; None where one is missing.
        lacking: declared seeds that are not finished.
        off: seeds whose clean accuracy lies beyond random's frontier.
        problem: why it is not measurable; empty if it is.
        estimate: mean and interval over the seeds.
        p_holm: p corrected over the declared family; uncorrected for the primary contrast, NaN for an exploratory one.
        held_back: whether it cannot be a gain or a loss because the primary contrast is neither.
        sign_flip_p: exact p of a sign-flip test over the seeds.
        extreme: the seed whose gain lies farthest from the mean.
        without_extreme: the estimate without that seed; None with fewer than three seeds.
        strong: strong attack -> the estimate under that attack, on fewer images.
        label: what its setting differs in from those of other contrasts, as text.
    """

    plan: PlannedContrast
    declared: bool
    primary: bool = False
    note: str = ""
    gains: dict[int, float] = field(default_factory=dict[int, float])
    clean: tuple[float, float] | None = None
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
    label: str = ""

    @property
    def method(self) -> str:
        """Spelling of the method."""
        return self.plan.method

    @property
    def against(self) -> str:
        """Spelling of the method that it is compared with."""
        return self.plan.against

    @property
    def gain(self) -> float:
        """Mean gain over the seeds; NaN without an estimate."""
        return NAN if self.estimate is None else self.estimate.mean

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return NAN if self.estimate is None else self.estimate.low

    @property
    def high(self) -> float:
        """Upper end of the 95% interval."""
        return NAN if self.estimate is None else self.estimate.high

    @property
    def p(self) -> float:
        """Two-sided p, not corrected."""
        return NAN if self.estimate is None else self.estimate.p

    @property
    def provisional(self) -> bool:
        """Whether declared seeds are not finished yet."""
        return bool(self.lacking)

    @property
    def verdict(self) -> str:
        """The verdict: gain, loss, no difference, inconclusive, provisional or not measurable.

        No difference means that the interval contains 0 and lies within one point of it. A declared contrast is a gain
        or a loss only if it is significant after Holm's correction and the primary contrast is a gain or a loss too.
        """
        if self.declared and self.provisional:
            return "provisional"
        if not np.isfinite(self.low):
            return "not measurable"
        if self.low <= 0 <= self.high:
            return (
                "no difference"
                if self.low >= -EQUIVALENCE_MARGIN and self.high <= EQUIVALENCE_MARGIN
                else "inconclusive"
            )
        if self.declared and (self.held_back or not self.p_holm < ALPHA):
            return "inconclusive"
        return "gain" if self.low > 0 else "loss"

    def describe(self) -> str:
        """State the setting, the verdict and its figures."""
        plan = self.plan
        setting = f"{self.label}{plan.objective}, {describe_share(plan.fraction)}, eps {format_eps(plan.eps)}"
        matched_by = "at the same budget" if plan.kind == EQUAL_UPDATES else "at the same clean accuracy"
        against = "all data" if plan.against == FULL else plan.against
        prefix = "Primary contrast: " if self.primary else ""
        subject = f"{prefix}{setting}: {plan.method}"
        if self.verdict in ("provisional", "not measurable"):
            return f"{subject} against {against} {matched_by}{_explain_missing_verdict(self)}"
        return f"{subject} {VERDICT_PHRASES[self.verdict]} {against} {matched_by}: {_figures(self)}.{_caveats(self)}"


def format_points(value: float) -> str:
    """Format a gain in points, with its sign.

    >>> format_points(0.0234), format_points(-0.005)
    ('+2.3', '-0.5')
    """
    return f"{100 * value:+.1f}"


def _figures(contrast: Contrast) -> str:
    """State gain, interval, number of seeds, and p with its correction."""
    seeds = f"{len(contrast.gains)} seeds"
    p_name = "p" if contrast.primary else "Holm's p"
    significance = f"{p_name} {contrast.p_holm:.3g}" if contrast.declared else "exploratory"
    interval = f"95% interval {format_points(contrast.low)} to {format_points(contrast.high)}"
    note = contrast.note and f": {contrast.note}"
    return f"{format_points(contrast.gain)} points ({interval}, {seeds}, {significance}{note})"


def _explain_missing_verdict(contrast: Contrast) -> str:
    """Explain why there is no verdict."""
    done = len(contrast.plan.seeds) - len(contrast.lacking)
    total = len(contrast.plan.seeds)
    if contrast.declared and contrast.provisional:
        so_far = f"{format_points(contrast.gain)} points so far; " if contrast.gains else ""
        return f" is provisional: {so_far}{done} of {total} seeds are done."
    if contrast.problem:
        return f" is not measurable: {contrast.problem}."
    reason = (
        "one seed gives no interval"
        if len(contrast.gains) == 1
        else "all seeds have the same gain, so there is no interval"
    )
    return f": {format_points(contrast.gain)} points, but {reason}."


def _caveats(contrast: Contrast) -> str:
    """Caveats that a reader of the verdict must know."""
    caveats: list[str] = []
    if contrast.held_back and contrast.verdict == "inconclusive":
        caveats.append("The primary contrast supports no claim, so this one supports none either.")
    if contrast.off:
        caveats.append(f"{len(contrast.off)} of its seeds have a clean accuracy beyond random's frontier.")
    if len(contrast.gains) < ENOUGH_SEEDS:
        caveats.append(f"Fewer than {ENOUGH_SEEDS} seeds: a first look.")
    if contrast.estimate is not None and contrast.estimate.images < ENOUGH_IMAGES:
        caveats.append(f"Only {contrast.estimate.images} images: too few for an interval that can be trusted.")
    return "".join(f" {text}" for text in caveats)
