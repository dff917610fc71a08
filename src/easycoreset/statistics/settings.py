"""Settings: what the rows of a comparison must share to be compared."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from easycoreset.options.comparing import FULL

Item = TypeVar("Item")
Setting = tuple[str, str | None, str, float]  # data, model, objective, fraction


def group_by_setting(
    items: Iterable[Item], setting_of: Callable[[Item], Setting], method_of: Callable[[Item], str]
) -> dict[Setting, list[Item]]:
    """Group cells, or rows of a table, by setting; training on all data is in the settings of all fractions.

    >>> cells = [("random", 0.1), ("random", 0.2), ("full", 1.0)]
    >>> groups = group_by_setting(cells, lambda cell: ("digits", None, "standard", cell[1]), lambda cell: cell[0])
    >>> [(setting[-1], [method for method, _ in group]) for setting, group in groups.items()]
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
        for other in [other for other in groups if other[:3] == setting[:3]] or [setting]:
            groups.setdefault(other, []).append(item)
    return groups
