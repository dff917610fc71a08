"""The verdict in words, for people who read no statistics: what to keep, and at what price."""

from collections.abc import Sequence

from easycoreset.console import say_eps, say_share
from easycoreset.statistics import Contrast, Group, PlannedContrast
from easycoreset.statistics.planned import BASELINE, EQUAL, FULL, MATCHED, REFERENCES

OTHERS = 3  # further settings of which a sentence each is said


def advise(contrasts: Sequence[Contrast], groups: Sequence[Group]) -> str:
    """One paragraph: of the primary contrast's setting, else of the first, what to keep; of others a sentence each.

    Only a declared contrast that stands is told as shown; the rest is told as what the table looks like.
    """
    declared = [contrast for contrast in contrasts if contrast.declared]
    settings = list(dict.fromkeys(contrast.plan.setting for contrast in (*declared, *contrasts)))
    if not settings:
        return ""
    first, *rest = settings
    said = _recommend(_of(contrasts, first), groups, len(declared))
    for setting in rest[:OTHERS]:
        said.append(_sum_up(_of(contrasts, setting)))
    if len(rest) > OTHERS:
        said.append(f"{len(rest) - OTHERS} more settings are in the list below.")
    return " ".join(said)


def _of(contrasts: Sequence[Contrast], setting: tuple[str, str | None, str, float]) -> list[Contrast]:
    """The contrasts of a setting at the radius of its declared ones, else at the first."""
    own = [contrast for contrast in contrasts if contrast.plan.setting == setting]
    eps = next((contrast.plan.eps for contrast in own if contrast.declared), own[0].plan.eps)
    return [contrast for contrast in own if contrast.plan.eps == eps]


def _recommend(own: Sequence[Contrast], groups: Sequence[Group], family: int) -> list[str]:
    """What to keep, at what price, and whether random or all data would do as well."""
    plan = own[0].plan
    kept = say_share(plan.fraction)
    attack = f"against an attack of eps {say_eps(plan.eps)}"
    where = f"After {plan.objective} training on {kept} of the samples"
    declared = [c for c in own if c.declared and c.against == BASELINE and c.method not in REFERENCES]
    finished = [c for c in declared if not c.provisional]
    if not finished:
        return [_begin(where, declared, own)]
    measured = [c for c in finished if c.verdict != "not measurable"]
    winners = sorted((c for c in measured if c.verdict == "gain"), key=lambda c: (not c.primary, -c.gain))
    said = [f"{where}, {c.method} cannot be compared with random: {c.problem}." for c in finished if c.problem]
    if winners:
        best, *others = winners
        said += [
            f"Keep the {kept} that {best.method} picks: {attack} the model is {_points(best)} more robust than "
            f"one of as many random samples{_how(best)}."
        ]
        said += [f"{c.method} gains too, {_points(c)}; which of them is better is another question." for c in others]
    elif measured:
        said += [
            f"{where}, no method is shown to make the model more robust {attack} than as many random "
            f"samples{_how(measured[0])}: keep random ones."
        ]
        losers = [c.method for c in measured if c.verdict == "loss"]
        said += [f"Shown to make it less robust: {', '.join(losers)}."] if losers else []
    if len(finished) < len(declared):
        said.append(f"{len(declared) - len(finished)} of {len(declared)} comparisons with random are not finished.")
    best = max(winners[:1] or measured, key=lambda c: c.gain, default=None)
    if best is None or best.verdict == "loss":
        return said
    nearest = "" if winners else f"The closest is {best.method}. "
    told = bool(winners) and best.plan.kind == EQUAL  # how it compares with random at equal budgets
    return [*said, nearest + _price(best, own, groups, told), *_as_good(best, own, family)]


def _begin(where: str, declared: Sequence[Contrast], own: Sequence[Contrast]) -> str:
    """The sentence where no declared comparison with random is finished."""
    if declared:
        first = min(declared, key=lambda c: not c.primary)
        planned = len(first.plan.seeds)
        return f"{where}, nothing can be said yet: {planned - len(first.lacking)} of {planned} seeds are done."
    if any(c.declared for c in own):
        return _sum_up(own)
    return f"{where}, no method was declared to be compared with random."


def _how(contrast: Contrast) -> str:
    return " at the same clean accuracy" if contrast.plan.kind == MATCHED else " at the same budget"


def _price(best: Contrast, own: Sequence[Contrast], groups: Sequence[Group], told: bool) -> str:
    """Robust and clean accuracy beside random's at equal budgets; nothing where random has no such budget."""
    plan = best.plan
    mine, random = (_group(name, plan, groups) for name in (best.method, BASELINE))
    equal = next((c for c in own if c.method == best.method and c.against == BASELINE and c.plan.kind == EQUAL), None)
    if mine is None or random is None:
        return ""
    change = 100 * (mine.clean[0] - random.clean[0])
    clean = f"{100 * mine.clean[0]:.1f}% instead of {100 * random.clean[0]:.1f}%"
    price = f"{abs(change):.1f} points {'lower' if change < 0 else 'higher'} ({clean})"
    if equal is None or equal.estimate is None or told:
        return f"At equal budgets its clean accuracy is {price}."
    return f"At equal budgets its robust accuracy is {_more(equal)} than random's, and its clean accuracy {price}."


def _as_good(best: Contrast, own: Sequence[Contrast], family: int) -> list[str]:
    """A sentence where random's frontier, or all data, does as well as the method."""
    said: list[str] = []
    ours = [c for c in own if c.method == best.method and c.estimate is not None and c.low == c.low]
    matched = next((c for c in ours if c.against == BASELINE and c.plan.kind == MATCHED), None)
    full = next((c for c in ours if c.against == FULL), None)
    if matched is not None and matched.verdict in ("inconclusive", "no difference", "loss"):
        said.append(
            "Random samples trained for fewer updates reach the same clean accuracy, and there it is "
            f"{_more(matched)} than theirs: {_doubt(matched, family)}."
        )
    if full is None or full.provisional:
        return said
    if full.verdict == "no difference":
        said.append(
            f"All data at the same budget does as well (its robust accuracy is {_more(full)} than theirs): "
            "then there is no need of a subset."
        )
    elif full.low <= 0 <= full.high:
        said.append(
            "Whether all data at the same budget would do as well cannot be told (its robust accuracy is "
            f"{_more(full)} than theirs)."
        )
    elif full.verdict == "inconclusive":
        said.append(
            f"Its robust accuracy is {_more(full)} than that of all data at the same budget: {_doubt(full, family)}."
        )
    else:
        hint = "" if full.declared else ", which was not declared beforehand"
        said.append(f"Its robust accuracy is {_more(full)} than that of all data at the same budget{hint}.")
    return said


def _doubt(contrast: Contrast, family: int) -> str:
    """Why a gain is not told as one."""
    if contrast.low <= 0 <= contrast.high:
        return "that is no difference that can be told"
    if contrast.held_back:
        return "that is no claim, for the primary contrast makes none"
    return f"that is too little to claim among {family} declared contrasts" if contrast.declared else "a first look"


def _sum_up(own: Sequence[Contrast]) -> str:
    """Another setting, in a sentence."""
    plan = own[0].plan
    where = f"With {plan.objective} training, {say_share(plan.fraction)} kept and eps {say_eps(plan.eps)}"
    winners = [c for c in own if c.declared and c.verdict == "gain"]
    if winners:
        told = [f"{c.method} over {'all data' if c.against == FULL else c.against} by {_points(c)}" for c in winners]
        return f"{where}, there are gains: {'; '.join(told)}."
    if all(c.provisional for c in own if c.declared):
        return f"{where}, nothing can be said yet."
    lost = [c for c in own if c.declared and c.verdict == "loss"]
    losses = [f"{c.method} to {'all data' if c.against == FULL else c.against} by {_points(c, sign=-1)}" for c in lost]
    return f"{where}, no method is shown to be better" + (
        f", and there are losses: {'; '.join(losses)}." if losses else "."
    )


def _points(contrast: Contrast, sign: int = 1) -> str:
    """A gain with its interval; with a sign of -1 a loss."""
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    interval = f" ({100 * low:.1f} to {100 * high:.1f})" if contrast.low == contrast.low else ""
    return f"{100 * sign * contrast.gain:.1f} points{interval}"


def _more(contrast: Contrast) -> str:
    """A gain as a comparison."""
    value, low, high = (100 * v for v in (contrast.gain, contrast.low, contrast.high))
    sign, word = (1, "higher") if value > -0.05 else (-1, "lower")
    ends = sorted((sign * low, sign * high))
    return f"{abs(value):.1f} points" + (f" ({ends[0]:.1f} to {ends[1]:.1f})" if low == low else "") + f" {word}"


def _group(method: str, plan: PlannedContrast, groups: Sequence[Group]) -> Group | None:
    """A row of the plan's setting and budget."""
    key = (method, plan.fraction, plan.objective, f"{plan.size} {plan.unit}")
    return next((g for g in groups if (g.method, g.fraction, g.objective, g.budget) == key), None)
