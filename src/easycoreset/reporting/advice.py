"""The verdict in plain words, for readers without statistics: which samples to keep, and at what cost."""

from collections.abc import Sequence

from easycoreset.console import format_eps, format_percent
from easycoreset.dynamic import DYNAMIC_METHODS
from easycoreset.members import split_spec
from easycoreset.options.comparing import FULL
from easycoreset.statistics import Contrast
from easycoreset.statistics.planned_contrasts import BASELINE, CONTROL_METHODS, EQUAL_UPDATES, MATCHED_CLEAN
from easycoreset.statistics.settings import OWN_SHARE, Setting, describe_share

MAX_OTHER_SETTINGS = 3  # further settings that have a sentence each


def advise(contrasts: Sequence[Contrast]) -> str:
    """One paragraph that says which samples to keep, then a sentence on each of the other settings.

    It recommends samples for the setting of the first declared contrast (the primary one, if there is one), or else
    for the first setting. Only a declared contrast whose verdict is gain or loss is called "shown".
    """
    declared = [contrast for contrast in contrasts if contrast.declared]
    settings = list(dict.fromkeys(contrast.plan.setting for contrast in (*declared, *contrasts)))
    if not settings:
        return ""
    first, *rest = settings
    sentences = _recommend(_in_setting(contrasts, first), len(declared))
    for setting in rest[:MAX_OTHER_SETTINGS]:
        sentences.append(_sum_up(_in_setting(contrasts, setting)))
    if len(rest) > MAX_OTHER_SETTINGS:
        sentences.append(f"{len(rest) - MAX_OTHER_SETTINGS} more settings are in the list below.")
    return " ".join(sentences)


def _in_setting(contrasts: Sequence[Contrast], setting: Setting) -> list[Contrast]:
    """The contrasts of a setting at the eps of its declared ones, else at the first eps."""
    contrasts = [contrast for contrast in contrasts if contrast.plan.setting == setting]
    eps = next((contrast.plan.eps for contrast in contrasts if contrast.declared), contrasts[0].plan.eps)
    return [contrast for contrast in contrasts if contrast.plan.eps == eps]


def _recommend(contrasts: Sequence[Contrast], family_size: int) -> list[str]:
    """Sentences on which samples to keep, at which cost, and whether random samples or all data would do as well."""
    plan = contrasts[0].plan
    kept = "their own shares" if plan.fraction == OWN_SHARE else format_percent(plan.fraction)
    attack = f"against an attack of eps {format_eps(plan.eps)}"
    where = f"After {plan.objective} training{_other_options(contrasts[0])} on {kept} of the samples"
    declared = [c for c in contrasts if c.declared and c.against == BASELINE and c.method not in CONTROL_METHODS]
    finished = [c for c in declared if not c.provisional]
    if not finished:
        return [_say_unfinished(where, declared, contrasts)]
    measured = [c for c in finished if c.verdict != "not measurable"]
    winners = sorted((c for c in measured if c.verdict == "gain"), key=lambda c: (not c.primary, -c.gain))
    sentences = [f"{where}, {c.method} cannot be compared with random: {c.problem}." for c in finished if c.problem]
    if winners:
        best, *others = winners
        sentences += [
            f"{_recommend_method(best.method, kept)}: {attack} the model is {_points(best)} more robust than "
            f"one of {_random_samples([best], kept)}{_matched_by(best)}."
        ]
        sentences += [
            f"{c.method} also gains {_points(c)}; these contrasts do not compare the two methods." for c in others
        ]
    elif measured:
        sentences += [
            f"{where}, no method is shown to make the model more robust {attack} than "
            f"{_random_samples(measured, kept)}{_matched_by(measured[0])}: keep random ones."
        ]
        losers = [c.method for c in measured if c.verdict == "loss"]
        sentences += [f"Shown to make it less robust: {', '.join(losers)}."] if losers else []
    if len(finished) < len(declared):
        sentences.append(
            f"{len(declared) - len(finished)} of {len(declared)} comparisons with random are not finished."
        )
    best = max(winners[:1] or measured, key=lambda c: c.gain, default=None)
    if best is None or best.verdict == "loss":
        return sentences
    nearest = "" if winners else f"The closest is {best.method}."
    is_gain_stated = bool(winners) and best.plan.kind == EQUAL_UPDATES  # the comparison with random at equal budgets
    return [
        *sentences,
        *(text for text in (nearest, _compare_at_equal_budgets(best, contrasts, is_gain_stated)) if text),
        *_compare_alternatives(best, contrasts, family_size),
    ]


def _is_dynamic(method: str) -> bool:
    """Whether a method chooses while it trains."""
    return split_spec(method)[0] in DYNAMIC_METHODS


def _recommend_method(method: str, kept: str) -> str:
    """What to do where a method gains: it keeps samples, or chooses them while training."""
    return f"Train with {method}" if _is_dynamic(method) else f"Keep the {kept} that {method} selects"


def _random_samples(contrasts: Sequence[Contrast], kept: str) -> str:
    """What methods are compared with; a method that chooses while it trains sees other numbers of samples."""
    return f"a random {kept}" if any(_is_dynamic(c.method) for c in contrasts) else "as many random samples"


def _say_unfinished(where: str, declared: Sequence[Contrast], contrasts: Sequence[Contrast]) -> str:
    """The sentence for a setting in which no declared comparison with random is finished."""
    if declared:
        first = min(declared, key=lambda c: not c.primary)
        planned = len(first.plan.seeds)
        return f"{where}, nothing can be concluded yet: {planned - len(first.lacking)} of {planned} seeds are done."
    if any(c.declared for c in contrasts):
        return _sum_up(contrasts)
    return f"{where}, no method was declared to be compared with random."


def _matched_by(contrast: Contrast) -> str:
    return " at the same clean accuracy" if contrast.plan.kind == MATCHED_CLEAN else " at the same budget"


def _compare_at_equal_budgets(best: Contrast, contrasts: Sequence[Contrast], is_gain_stated: bool) -> str:
    """A sentence comparing with random at equal budgets; empty if a row of this budget is missing."""
    same_rows = (best.method, BASELINE, best.plan.size)
    at_equal = (c for c in contrasts if c.plan.kind == EQUAL_UPDATES)
    equal = next((c for c in at_equal if (c.method, c.against, c.plan.size) == same_rows), None)
    accuracies = best.clean if equal is None else equal.clean
    if accuracies is None:
        return ""
    of_method, of_random = (100 * accuracy for accuracy in accuracies)
    change = of_method - of_random
    clean = f"{of_method:.1f}% instead of {of_random:.1f}%"
    difference = f"{abs(change):.1f} points {'lower' if change < 0 else 'higher'} ({clean})"
    if equal is None or equal.estimate is None or is_gain_stated:
        return f"At equal budgets its clean accuracy is {difference}."
    robust = f"its robust accuracy is {_higher_or_lower(equal)} than random's"
    return f"At equal budgets {robust}, and its clean accuracy {difference}."


def _compare_alternatives(best: Contrast, contrasts: Sequence[Contrast], family_size: int) -> list[str]:
    """Sentences comparing the method with random's frontier and with all data."""
    sentences: list[str] = []
    of_method = [c for c in contrasts if c.method == best.method]
    measured = [c for c in of_method if c.estimate is not None and c.low == c.low]  # with an interval: low is not NaN
    matched = next((c for c in measured if c.against == BASELINE and c.plan.kind == MATCHED_CLEAN), None)
    full = next((c for c in measured if c.against == FULL), None)
    if matched is not None and matched.verdict in ("inconclusive", "no difference", "loss"):
        sentences.append(
            "Random samples trained for fewer updates reach the same clean accuracy; there the robust accuracy of "
            f"{best.method} is {_higher_or_lower(matched)} than theirs: {_why_no_claim(matched, family_size)}."
        )
    if full is None or full.provisional:
        return sentences
    if full.verdict == "no difference":
        sentences.append(
            "Training on all data at the same budget does as well (the method's robust accuracy is "
            f"{_higher_or_lower(full)}), so a subset is not needed."
        )
    elif full.low <= 0 <= full.high:
        sentences.append(
            "It is not known whether training on all data at the same budget would do as well (the method's robust "
            f"accuracy is {_higher_or_lower(full)})."
        )
    elif full.verdict == "inconclusive":
        sentences.append(
            f"Its robust accuracy is {_higher_or_lower(full)} than that of all data at the same budget: "
            f"{_why_no_claim(full, family_size)}."
        )
    else:
        hint = "" if full.declared else ", which was not declared beforehand"
        sentences.append(
            f"Its robust accuracy is {_higher_or_lower(full)} than that of all data at the same budget{hint}."
        )
    return sentences


def _why_no_claim(contrast: Contrast, family_size: int) -> str:
    """Why a gain is not claimed."""
    if contrast.low <= 0 <= contrast.high:
        return "that is inconclusive"
    if contrast.held_back:
        return "that supports no claim, because the primary contrast supports none"
    return (
        f"that is too little for a claim among {family_size} declared contrasts"
        if contrast.declared
        else "a first look"
    )


def _sum_up(contrasts: Sequence[Contrast]) -> str:
    """One sentence on a setting."""
    plan = contrasts[0].plan
    training = f"{plan.objective} training{_other_options(contrasts[0])}"
    where = f"With {training}, {describe_share(plan.fraction)} and eps {format_eps(plan.eps)}"
    winners = [c for c in contrasts if c.declared and c.verdict == "gain"]
    if winners:
        gains = [f"{c.method} over {'all data' if c.against == FULL else c.against} by {_points(c)}" for c in winners]
        return f"{where}, there are gains: {'; '.join(gains)}."
    declared = [c for c in contrasts if c.declared]
    if not declared:
        return f"{where}, no contrast was declared before the run."
    if all(c.provisional for c in declared):
        return f"{where}, nothing can be concluded yet."
    losers = [c for c in contrasts if c.declared and c.verdict == "loss"]
    losses = [
        f"{c.method} to {'all data' if c.against == FULL else c.against} by {_points(c, sign=-1)}" for c in losers
    ]
    return f"{where}, no method is shown to be better" + (
        f", and there are losses: {'; '.join(losses)}." if losses else "."
    )


def _other_options(contrast: Contrast) -> str:
    """What the setting differs in from others, in brackets; empty where there is one setting."""
    return f" ({contrast.label.rstrip(': ')})" if contrast.label else ""


def _points(contrast: Contrast, sign: int = 1) -> str:
    """A gain in points, with its interval if there is one; with sign -1 a loss."""
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    interval = f" ({100 * low:.1f} to {100 * high:.1f})" if contrast.low == contrast.low else ""
    return f"{100 * sign * contrast.gain:.1f} points{interval}"


def _higher_or_lower(contrast: Contrast) -> str:
    """A gain as "N points (LOW to HIGH) higher" or "... lower"."""
    value, low, high = (100 * v for v in (contrast.gain, contrast.low, contrast.high))
    sign, word = (1, "higher") if value > -0.05 else (-1, "lower")  # -0.05 rounds to 0.0
    bounds = sorted((sign * low, sign * high))
    return f"{abs(value):.1f} points" + (f" ({bounds[0]:.1f} to {bounds[1]:.1f})" if low == low else "") + f" {word}"
