"""Settings: what the rows of a comparison must share to be compared."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from easycoreset.options.comparing import FULL

Item = TypeVar("Item")


class Setting(NamedTuple):
    """Data, model, objective and all other options; and the share that is kept.

    Attributes:
        data: the name of the data set.
        model: the model.
        objective: the training objective.
        fraction: the share of the samples that is kept.
        variant: the other options that are off their defaults, as text.
    """

    data: str
    model: str | None
    objective: str
    fraction: float
    variant: str = ""

    @property
    def without_fraction(self) -> "Setting":
        """What the settings of all fractions share."""
        return self._replace(fraction=0.0)


def group_by_setting(
    items: Iterable[Item], setting_of: Callable[[Item], Setting], method_of: Callable[[Item], str]
) -> dict[Setting, list[Item]]:
    """Group cells, or rows of a table, by setting; training on all data is in the settings of all fractions.

    >>> cells = [("random", 0.1), ("random", 0.2), ("full", 1.0)]
    >>> groups = group_by_setting(cells, lambda c: Setting("digits", None, "standard", c[1]), lambda c: c[0])
    >>> [(setting.fraction, [method for method, _ in group]) for setting, group in groups.items()]
    [(0.1, ['random', 'full']), (0.2, ['random', 'full'])]
    """
    groups: dict[Setting, list[Item]] = {}
    on_all_data: list[Item] = []
    for item in items:
        if method_of(item) == FULL:
            on_all_data.append(item)
        else:
            groups.setdefault(setting_of(item), []).append(item)
    for item in on_all_data:
        setting = setting_of(item)
        same = [other for other in groups if other.without_fraction == setting.without_fraction]
        for other in same or [setting]:
            groups.setdefault(other, []).append(item)
    return groups


def differing_fields(settings: Iterable[Setting]) -> list[str]:
    """Which of data, model and the other options differ between settings.

    >>> differing_fields([Setting("a", "m", "standard", 0.1), Setting("b", "m", "trades", 0.1)])
    ['data']
    """
    known = set(settings)
    return [name for name in ("data", "model", "variant") if len({getattr(setting, name) for setting in known}) > 1]


def label_setting(setting: Setting, fields: Sequence[str]) -> str:
    """The values of some fields before a setting's own text; empty without fields.

    >>> label_setting(Setting("a", "m", "standard", 0.1), ["data", "variant"])
    'a, other options at their defaults: '
    """
    values = [str(getattr(setting, name) or "other options at their defaults") for name in fields]
    return f"{', '.join(values)}: " if values else ""
