"""Settings: what the rows of a comparison must share to be compared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from easycoreset.console import format_percent
from easycoreset.options.comparing import FULL

Item = TypeVar("Item")
FIELDS = ("data", "model", "variant", "scoring")
OWN_SHARE = 0.0  # the fraction of a method that determines its share itself
STEP_PREFIXES = ("score.", "select.")  # of the options in `scoring`


def fits_all_fractions(method: str, fraction: float) -> bool:
    """Whether a row is compared with those of every fraction: all data, or a method with a share of its own."""
    return method == FULL or fraction == OWN_SHARE


def describe_share(fraction: float) -> str:
    """The share that is kept, in words.

    >>> describe_share(0.5), describe_share(OWN_SHARE)
    ('50% kept', 'shares of their own')
    """
    return "shares of their own" if fraction == OWN_SHARE else f"{format_percent(fraction)} kept"


class Setting(NamedTuple):
    """Data, model, objective and all other options; and the share that is kept.

    Attributes:
        data: the name of the data set.
        model: the model.
        objective: the training objective.
        fraction: the share of the samples that is kept, or OWN_SHARE.
        variant: the options of training and evaluation that are off their defaults, as text.
        scoring: the options of scoring and choosing that are off their defaults, as text; None for a row whose method
            reads no scores, which belongs to the settings of all scoring options.
    """

    data: str
    model: str | None
    objective: str
    fraction: float
    variant: str = ""
    scoring: str | None = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Setting":
        """The setting of a row of results, or of a cell."""
        return cls(*(row.get(name, "") for name in cls._fields))

    @property
    def pooled(self) -> "Setting":
        """What the settings of all fractions share."""
        return self._replace(fraction=0.0)

    def without(self, option: str) -> "Setting":
        """The setting with an option of training or evaluation at its default.

        >>> Setting("digits", None, "standard", 0.1, "lr=0.1; momentum=0.8").without("lr").variant
        'momentum=0.8'
        """
        others = [text for text in self.variant.split("; ") if text.partition("=")[0] != option]
        return self._replace(variant="; ".join(others))

    @property
    def options(self) -> dict[str, str]:
        """The options that are off their defaults, by name.

        >>> Setting("digits", None, "standard", 0.1, "lr=0.1; momentum=0.8", "score.epochs=30").options
        {'lr': '0.1', 'momentum': '0.8', 'score.epochs': '30'}
        """
        texts = [text for field in (self.variant, self.scoring or "") for text in field.split("; ") if text]
        return {name: value for name, _, value in (text.partition("=") for text in texts)}

    def holds(self, other: "Setting", method: str) -> bool:
        """Whether a row of another setting is compared in this one; training on all data fits all fractions.

        >>> setting = Setting("digits", None, "standard", 0.1, scoring="score.epochs=30")
        >>> setting.holds(setting._replace(scoring=None), "random"), setting.holds(setting._replace(scoring=""), "d2")
        (True, False)
        """
        same = (self.data, self.model, self.objective, self.variant) == (
            other.data,
            other.model,
            other.objective,
            other.variant,
        )
        fraction_fits = fits_all_fractions(method, other.fraction) or other.fraction == self.fraction
        return same and fraction_fits and other.scoring in (None, self.scoring)


def group_by_setting(
    items: Iterable[Item], setting_of: Callable[[Item], Setting], method_of: Callable[[Item], str]
) -> dict[Setting, list[Item]]:
    """Group cells, or rows of a table, by setting; rows that fit several settings are in all of them.

    >>> cells = [("random", 0.1), ("random", 0.2), ("full", 1.0)]
    >>> groups = group_by_setting(cells, lambda c: Setting("digits", None, "standard", c[1]), lambda c: c[0])
    >>> [(setting.fraction, [method for method, _ in group]) for setting, group in groups.items()]
    [(0.1, ['random', 'full']), (0.2, ['random', 'full'])]
    """
    listed = [(item, setting_of(item), method_of(item)) for item in items]
    groups: dict[Setting, list[Item]] = {}
    # settings of scored rows first, then of rows that fit none of these
    for _, setting, method in sorted(listed, key=lambda entry: _breadth(entry[1], entry[2])):
        if not any(other.holds(setting, method) for other in groups):
            groups[setting._replace(scoring=setting.scoring or "")] = []
    for item, setting, method in sorted(listed, key=lambda entry: fits_all_fractions(entry[2], entry[1].fraction)):
        for other, group in groups.items():
            if other.holds(setting, method):
                group.append(item)
    return groups


def _breadth(setting: Setting, method: str) -> int:
    """0 for a row of one setting, 1 for one that reads no scores, 2 for one that fits all fractions."""
    return 2 if fits_all_fractions(method, setting.fraction) else int(setting.scoring is None)


def differing_fields(settings: Iterable[Setting]) -> list[str]:
    """Which of data, model and the other options differ between settings.

    >>> differing_fields([Setting("a", "m", "standard", 0.1), Setting("b", "m", "trades", 0.1)])
    ['data']
    """
    known = set(settings)
    values = {name: [getattr(setting, name) for setting in known] for name in FIELDS}
    values["scoring"] = [value for value in values["scoring"] if value is not None]  # such rows fit all
    return [name for name, found in values.items() if len(set(found)) > 1]


def differing_options(settings: Iterable[Setting]) -> list[str]:
    """The options off their defaults in which settings differ; a setting without scores fits those of all.

    >>> differing_options([Setting("a", "m", "standard", 0.1), Setting("a", "m", "standard", 0.1, "lr=0.1; ema=0.9")])
    ['lr', 'ema']
    """
    known = set(settings)
    scored = [setting for setting in known if setting.scoring is not None]
    names = dict.fromkeys(name for setting in sorted(known, key=str) for name in setting.options)
    return [
        name
        for name in names
        if len({s.options.get(name) for s in (scored if name.startswith(STEP_PREFIXES) else known)}) > 1
    ]


def label_setting(setting: Setting, fields: Sequence[str]) -> str:
    """The values of some fields before a setting's own text; empty without fields.

    >>> label_setting(Setting("a", "m", "standard", 0.1), ["data", "variant"])
    'a, other options at their defaults: '
    """
    values = [str(getattr(setting, name) or "other options at their defaults") for name in fields]
    return f"{', '.join(values)}: " if values else ""
