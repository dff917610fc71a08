"""Outcomes of a grid's rows as arrays over seeds and test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from easycoreset.errors import UsageError
from easycoreset.spelling import name_data
from easycoreset.statistics.planned import FULL

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Load = Callable[[str], pa.Table]  # cell name -> its outcomes: index, label, attack, eps, broken
Setting = tuple[str, str | None, str, float]  # data, model, objective, fraction
Seeds = dict[tuple[str, int], dict[int, list[str]]]  # (method, budget) -> seed -> cells
STRONG = "predictions-strong.parquet"  # what strong attacks did, in a cell's folder


@dataclass(frozen=True)
class Row:
    """All seeds of one row of a grid at one radius.

    Attributes:
        seeds: of the cells.
        images: [N] index of each test image.
        labels: [N] their classes.
        clean: [seeds, N] right without an attack.
        robust: [seeds, N] right under every attack.
    """

    seeds: tuple[int, ...]
    images: Integers
    labels: Integers
    clean: Bools
    robust: Bools

    def take(self, seeds: Sequence[int]) -> "Row":
        """The same of some of its seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        return Row(tuple(seeds), self.images, self.labels, self.clean[places], self.robust[places])


@dataclass
class Outcomes:
    """The rows of a results table, read once.

    Attributes:
        results: as `compare` writes it.
        load: gives a cell's outcomes by its name.
        load_strong: gives what strong attacks did to some of the images; None where there were none.
    """

    results: pa.Table
    load: Load
    load_strong: Callable[[str], pa.Table | None] = lambda name: None
    _rows: dict[Any, Row | None] = field(default_factory=dict[Any, Row | None])

    def __post_init__(self) -> None:
        self.load = cache(self.load)
        self.load_strong = cache(self.load_strong)

    @cached_property
    def _table(self) -> list[dict[str, Any]]:
        return [row for row in self.results.to_pylist() if row["attack"] != "worst"]

    def _of(self, setting: Setting) -> list[dict[str, Any]]:
        """The rows of a setting, whatever share they keep."""
        return [row for row in self._table if _setting(row)[:3] == setting[:3]]

    @cached_property
    def grid(self) -> dict[Setting, Seeds]:
        """Setting -> (method, budget) -> seed -> cells; rows that keep everything stand in every setting of theirs.

        A seed has several cells where code was changed in between, the present one first.
        """
        found: dict[Setting, Seeds] = {}

        def add(setting: Setting, row: dict[str, Any]) -> None:
            cells = found.setdefault(setting, {}).setdefault(_key(row), {}).setdefault(row["seed"], [])
            cells += [row["cell"]] if row["cell"] not in cells else []

        for row in self._table:
            if row["method"] != FULL:
                add(_setting(row), row)
        for row in self._table:
            if row["method"] == FULL:
                settings = [setting for setting in found if setting[:3] == _setting(row)[:3]] or [_setting(row)]
                for setting in settings:
                    add(setting, row)
        return found

    def radii(self, setting: Setting) -> list[float]:
        """The radii of a setting, in the order of the table."""
        return list(dict.fromkeys(row["eps"] for row in self._of(setting)))

    def main(self, setting: Setting) -> float:
        """The main radius of a setting."""
        return self._of(setting)[0]["main"]

    def unit(self, setting: Setting) -> str:
        """What its budgets count."""
        return "updates" if self._of(setting)[0]["updates"] is not None else "epochs"

    def strong_attacks(self, setting: Setting) -> list[str]:
        """The strong attacks that some cell of the setting had."""
        cells = (cell for seeds in self.grid[setting].values() for several in seeds.values() for cell in several)
        tables = (table for cell in cells if (table := self.load_strong(cell)) is not None)
        return list(dict.fromkeys(name for table in tables for name in table["attack"].unique().to_pylist()))

    def row(
        self, setting: Setting, key: tuple[str, int], eps: float, strong: str | None = None, among: tuple[str, ...] = ()
    ) -> Row | None:
        """A row at one radius, under the table's attacks or a strong one; None where there is none.

        Args:
            setting: of the row.
            key: method and budget.
            eps: radius.
            strong: the strong attack; None for the table's.
            among: the only cells that it may consist of; empty for any.

        Raises:
            UsageError: its cells are of different images.
        """
        place = (setting, key, eps, strong, among)
        if place not in self._rows:
            several = self.grid.get(setting, {}).get(key, {})
            chosen = {seed: [c for c in cells if not among or c in among] for seed, cells in several.items()}
            cells = {seed: known[0] for seed, known in chosen.items() if known}
            self._rows[place] = self._read(key[0], cells, eps, strong)
        return self._rows[place]

    def _read(self, method: str, cells: dict[int, str], eps: float, strong: str | None) -> Row | None:
        parts = {seed: part for seed, cell in sorted(cells.items()) if (part := self._cell(cell, eps, strong))}
        if not parts:
            return None
        images, labels = next(iter(parts.values()))[:2]
        if any(not np.array_equal(images, part[0]) for part in parts.values()):
            raise UsageError(f"results: the cells of {method} were evaluated on different images")
        clean = [part[2] for part in parts.values()]
        robust = [part[3] for part in parts.values()]
        return Row(tuple(parts), images, labels, np.stack(clean), np.stack(robust))

    def _cell(self, cell: str, eps: float, strong: str | None) -> tuple[Integers, Integers, Bools, Bools] | None:
        """(images, labels, clean, robust) of a cell; where there were several attacks, any of them breaks an image."""
        table = self.load(cell)
        index = table["index"].to_numpy()
        radius = table["eps"].to_numpy()
        broken = table["broken"].to_numpy(zero_copy_only=False)
        labels = table["label"].to_numpy() if "label" in table.column_names else np.zeros(len(index), np.int64)
        clean = _is_attack(table, "clean")
        attacked = ~clean & np.isclose(radius, eps)
        attacked_index = index[attacked]
        attacked_broken = broken[attacked]
        if strong is not None:
            stronger = self.load_strong(cell)
            rows = _is_attack(stronger, strong) if stronger is not None else np.zeros(0, bool)
            if stronger is None or not rows.any():
                return None
            attacked_index = stronger["index"].to_numpy()[rows]
            attacked_broken = stronger["broken"].to_numpy(zero_copy_only=False)[rows]
        if not len(attacked_index):
            return None
        images = np.unique(attacked_index)
        fallen = np.zeros(len(images), bool)
        np.logical_or.at(fallen, np.searchsorted(images, attacked_index), attacked_broken)
        order = np.argsort(index[clean])
        places = order[np.searchsorted(index[clean][order], images)]
        return images.astype(np.int64), labels[clean][places], ~broken[clean][places], ~fallen


def _is_attack(table: pa.Table, name: str) -> Bools:
    return np.asarray(pc.equal(table["attack"], name).to_numpy(zero_copy_only=False), bool)  # pyright: ignore[reportAttributeAccessIssue]


def _setting(row: dict[str, Any]) -> Setting:
    return name_data(row["data"]), row["model"], row["objective"], row["fraction"]


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["method"], row["updates"] if row["updates"] is not None else row["epochs"]
