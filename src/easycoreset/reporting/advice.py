"""The verdict in words, for people who read no statistics: what to keep, and at what price."""

from collections.abc import Sequence

from easycoreset.console import say_eps, say_share
from easycoreset.statistics import Contrast, Group
from easycoreset.statistics.planned import BASELINE, CONTROLS, EQUAL, FULL, MATCHED

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
    said = _recommend(_of(contrasts, first), groups)
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


def _recommend(own: Sequence[Contrast], groups: Sequence[Group]) -> list[str]:
    """What to keep, at what price, and whether random or all data would do as well."""
    plan = own[0].plan
    share, eps = say_share(plan.fraction), say_eps(plan.eps)
    where = f"After {plan.objective} training on {share} of the samples, against an attack of eps {eps}"
    against_random = [c for c in own if c.declared and c.against == BASELINE and c.method not in CONTROLS]
    winners = sorted((c for c in against_random if c.verdict == "gain"), key=lambda c: -c.gain)
    waiting = [c for c in own if c.declared and c.provisional]
    if winners:
        best = winners[0]
        how = "than as many random samples" + (" at the same clean accuracy" if best.plan.kind == MATCHED else "")
        more = [c.method for c in winners[1:]]
        said = [f"{where}, keep what {best.method} keeps: the model is {_points(best)} more robust {how}."]
        said += [f"{' and '.join(more)} {'gains' if len(more) == 1 else 'gain'} too."] if more else []
        method = best.method
    elif waiting:
        done = min(len(c.plan.seeds) - len(c.lacking) for c in waiting)
        said = [f"{where}, nothing can be said yet: {done} of {len(waiting[0].plan.seeds)} seeds are done."]
        method = waiting[0].method
    else:
        said = [f"{where}, no method is shown to be better than as many random samples: keep a random part."]
        method = max(against_random, key=lambda c: c.gain).method if against_random else own[0].method
    said += _price(method, plan.objective, plan.fraction, groups)
    said += _as_good(method, own)
    return said


def _price(method: str, objective: str, fraction: float, groups: Sequence[Group]) -> list[str]:
    """Clean accuracy beside random's at equal budgets."""
    own, random = (_largest(name, objective, fraction, groups) for name in (method, BASELINE))
    if own is None or random is None:
        return []
    change = 100 * (own.clean[0] - random.clean[0])
    if abs(change) < 0.05:
        return [f"At equal budgets {method} costs no clean accuracy ({100 * own.clean[0]:.1f}%)."]
    verb = "costs" if change < 0 else "brings"
    return [f"At equal budgets {method} {verb} {abs(change):.1f} points of clean accuracy ({100 * own.clean[0]:.1f}% "
            f"instead of {100 * random.clean[0]:.1f}%)."]  # fmt: skip


def _as_good(method: str, own: Sequence[Contrast]) -> list[str]:
    """A sentence where random's frontier, or all data, does as well as the method."""
    said: list[str] = []
    ours = [c for c in own if c.method == method and c.estimate is not None]
    matched = next((c for c in ours if c.against == BASELINE and c.plan.kind == MATCHED), None)
    equal = next((c for c in ours if c.against == BASELINE and c.plan.kind == EQUAL), None)
    full = next((c for c in ours if c.against == FULL), None)
    if matched is not None and matched.verdict in ("inconclusive", "no difference", "loss"):
        higher = equal is not None and equal.gain > 0
        lead = (
            f"At equal budgets its robust accuracy is {_points(equal)} higher, but random"
            if higher and equal
            else "Random"
        )
        said.append(f"{lead} samples trained for fewer updates reach the same clean accuracy with a robust accuracy that "
                    f"is not shown to be lower (difference {_points(matched)}).")  # fmt: skip
    if full is not None and full.verdict in ("inconclusive", "no difference", "loss"):
        said.append(f"All data at the same budget does as well, as far as can be told (difference {_points(full)}): "
                    "then there is no need of a subset.")  # fmt: skip
    elif full is not None and full.verdict == "gain":
        hint = "" if full.declared else ", which was not declared beforehand"
        said.append(f"It is {_points(full)} more robust than all data at the same budget{hint}.")
    return said


def _sum_up(own: Sequence[Contrast]) -> str:
    """Another setting, in a sentence."""
    plan = own[0].plan
    where = f"With {plan.objective} training, {say_share(plan.fraction)} kept and eps {say_eps(plan.eps)}"
    winners = [c for c in own if c.declared and c.verdict == "gain"]
    waiting = [c for c in own if c.declared and c.provisional]
    if winners:
        told = [f"{c.method} over {'all data' if c.against == FULL else c.against} by {_points(c)}" for c in winners]
        return f"{where}, there are gains: {'; '.join(told)}."
    if waiting:
        return f"{where}, nothing can be said yet."
    return f"{where}, no method is shown to be better."


def _points(contrast: Contrast) -> str:
    """A gain with its interval."""
    interval = f", {100 * contrast.low:.1f} to {100 * contrast.high:.1f}" if contrast.low == contrast.low else ""
    return f"{100 * contrast.gain:.1f} points{interval and f' ({interval[2:]})'}"


def _largest(method: str, objective: str, fraction: float, groups: Sequence[Group]) -> Group | None:
    own = [g for g in groups if g.method == method and g.objective == objective and g.fraction == fraction]
    return max(own, key=lambda group: int(group.budget.split()[0]), default=None)
