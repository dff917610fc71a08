"""The columns of a table that say in which setting a row is."""

from collections.abc import Iterable, Sequence
from typing import Any

from easycoreset.console import format_objective
from easycoreset.documents import Share
from easycoreset.options.comparing import FULL
from easycoreset.statistics.settings import OWN_SHARE, Setting, differing_fields, differing_options


class SettingCells:
    """The columns of some settings: what they differ in, the objective and the share that is kept.

    Attributes:
        columns: names of the columns.
    """

    def __init__(self, settings: Iterable[Setting]) -> None:
        known = list(settings)
        self._fields = [name for name in differing_fields(known) if name in ("data", "model")]
        self._options = differing_options(known)
        self._objectives = [setting.objective for setting in known]
        self.columns: Sequence[str] = [*self._fields, *self._options, "objective", "kept"]

    def of(self, setting: Setting, method: str = "") -> list[Any]:
        """The cells of a row in a setting; training on everything keeps everything."""
        values = [getattr(setting, name) for name in self._fields]
        options = [setting.options.get(name, "default") for name in self._options]
        objective = format_objective(setting.objective, self._objectives)
        fraction = 1.0 if method == FULL else setting.fraction
        share = "its own" if fraction == OWN_SHARE else Share(fraction)
        return [*values, *options, objective, share]
