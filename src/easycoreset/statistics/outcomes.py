"""Per-image outcomes of a grid's rows, as arrays over seeds and test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from easycoreset.data_specs import data_name
from easycoreset.errors import UsageError
from easycoreset.statistics.settings import Setting, group_by_setting

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
OutcomeLoader = Callable[[str], pa.Table]  # cell name -> its outcomes: index, label, attack, eps, broken
Seeds = dict[tuple[str, int], dict[int, list[str]]]  # (method, budget) -> seed -> cells
STRONG_FILE = "predictions-strong.parquet"  # outcomes under the strong attacks, in a cell's folder


@dataclass(frozen=True)
class Row:
    """All seeds of one row of a grid at one eps.

    Attributes:
        seeds: seeds of the cells.
        images: [N] index of each test image.
        labels: [N] class of each test image.
        clean: [seeds, N] whether classified correctly without an attack.
        robust: [seeds, N] whether classified correctly under every attack.
    """

    seeds: tuple[int, ...]
    images: Integers
    labels: Integers
    clean: Bools
    robust: Bools

    def select_seeds(self, seeds: Sequence[int]) -> "Row":
        """The same row, restricted to some of its seeds."""
        positions = [self.seeds.index(seed) for seed in seeds]
        return Row(tuple(seeds), self.images, self.labels, self.clean[positions], self.robust[positions])


@dataclass
class Outcomes:
    """The rows of a results table, read once.

    Attributes:
        results: results table as `compare` writes it.
        load: cell name -> the cell's outcomes.
        load_strong: cell name -> outcomes of some images under the strong attacks; None if there were none.
    """

    results: pa.Table
    load: OutcomeLoader
    load_strong: Callable[[str], pa.Table | None] = lambda name: None
    _row_cache: dict[Any, Row | None] = field(default_factory=dict[Any, Row | None])

    def __post_init__(self) -> None:
        self.load = cache(self.load)
        self.load_strong = cache(self.load_strong)

    @cached_property
    def _attack_rows(self) -> list[dict[str, Any]]:
        """The rows of the table, without those that summarise all attacks."""
        return [row for row in self.results.to_pylist() if row["attack"] != "worst"]

    def _rows_in(self, setting: Setting) -> list[dict[str, Any]]:
        """The table's rows of a setting, whatever its fraction."""
        return [row for row in self._attack_rows if _setting(row)[:3] == setting[:3]]

    @cached_property
    def grid(self) -> dict[Setting, Seeds]:
        """Setting -> (method, budget) -> seed -> cells; `full` is in the settings of all fractions.

        A seed has several cells if the code changed in between; the current one comes first.
        """
        cells_by_setting: dict[Setting, Seeds] = {}
        for setting, rows in group_by_setting(self._attack_rows, _setting, lambda row: row["method"]).items():
            seeds = cells_by_setting.setdefault(setting, {})
            for row in rows:
                cells = seeds.setdefault(_key(row), {}).setdefault(row["seed"], [])
                cells += [row["cell"]] if row["cell"] not in cells else []
        return cells_by_setting

    def radii(self, setting: Setting) -> list[float]:
        """The values of eps of a setting, in the order of the table."""
        return list(dict.fromkeys(row["eps"] for row in self._rows_in(setting)))

    def main_eps(self, setting: Setting) -> float:
        """The main eps of a setting."""
        return self._rows_in(setting)[0]["main"]

    def budget_unit(self, setting: Setting) -> str:
        """The unit of a setting's budgets: updates or epochs."""
        return "updates" if self._rows_in(setting)[0]["updates"] is not None else "epochs"

    def strong_attacks(self, setting: Setting) -> list[str]:
        """The strong attacks that were run on any cell of the setting."""
        cells = (cell for seeds in self.grid[setting].values() for seed_cells in seeds.values() for cell in seed_cells)
        tables = (table for cell in cells if (table := self.load_strong(cell)) is not None)
        return list(dict.fromkeys(name for table in tables for name in table["attack"].unique().to_pylist()))

    def row(
        self,
        setting: Setting,
        key: tuple[str, int],
        eps: float,
        strong: str | None = None,
        allowed_cells: tuple[str, ...] = (),
    ) -> Row | None:
        """A row at one eps, under the table's attacks or a strong one; None without outcomes.

        Args:
            setting: setting of the row.
            key: method and budget.
            eps: radius of the attack.
            strong: name of the strong attack; None for the table's attacks.
            allowed_cells: names of the cells that may be used; empty for all.

        Raises:
            UsageError: its cells were evaluated on different images.
        """
        cache_key = (setting, key, eps, strong, allowed_cells)
        if cache_key not in self._row_cache:
            cells_by_seed = self.grid.get(setting, {}).get(key, {})
            candidates = {
                seed: [c for c in cells if not allowed_cells or c in allowed_cells]
                for seed, cells in cells_by_seed.items()
            }
            cells = {seed: allowed[0] for seed, allowed in candidates.items() if allowed}
            self._row_cache[cache_key] = self._read_row(key[0], cells, eps, strong)
        return self._row_cache[cache_key]

    def _read_row(self, method: str, cells: dict[int, str], eps: float, strong: str | None) -> Row | None:
        read = {seed: self._read_cell(cell, eps, strong) for seed, cell in sorted(cells.items())}
        per_seed = {seed: arrays for seed, arrays in read.items() if arrays}
        if not per_seed:
            return None
        images, labels = next(iter(per_seed.values()))[:2]
        if any(not np.array_equal(images, other_images) for other_images, *_ in per_seed.values()):
            raise UsageError(f"results: the cells of {method} were evaluated on different images")
        clean = [cell_clean for _, _, cell_clean, _ in per_seed.values()]
        robust = [cell_robust for _, _, _, cell_robust in per_seed.values()]
        return Row(tuple(per_seed), images, labels, np.stack(clean), np.stack(robust))

    def _read_cell(self, cell: str, eps: float, strong: str | None) -> tuple[Integers, Integers, Bools, Bools] | None:
        """(images, labels, clean, robust) of a cell, each [N] as in `Row`; None without outcomes."""
        table = self.load(cell)
        index = table["index"].to_numpy()
        eps_column = table["eps"].to_numpy()
        broken = table["broken"].to_numpy(zero_copy_only=False)
        labels = table["label"].to_numpy() if "label" in table.column_names else np.zeros(len(index), np.int64)
        clean = _is_attack(table, "clean")
        attacked = ~clean & np.isclose(eps_column, eps)
        attacked_index = index[attacked]
        attacked_broken = broken[attacked]
        if strong is not None:
            strong_table = self.load_strong(cell)
            is_strong = _is_attack(strong_table, strong) if strong_table is not None else np.zeros(0, bool)
            if strong_table is None or not is_strong.any():
                return None
            attacked_index = strong_table["index"].to_numpy()[is_strong]
            attacked_broken = strong_table["broken"].to_numpy(zero_copy_only=False)[is_strong]
        if not len(attacked_index):
            return None
        images = np.unique(attacked_index)
        broken_images = np.zeros(len(images), bool)
        np.logical_or.at(broken_images, np.searchsorted(images, attacked_index), attacked_broken)
        order = np.argsort(index[clean])
        clean_rows = order[np.searchsorted(index[clean][order], images)]
        return images.astype(np.int64), labels[clean][clean_rows], ~broken[clean][clean_rows], ~broken_images


def _is_attack(table: pa.Table, name: str) -> Bools:
    return np.asarray(pc.equal(table["attack"], name).to_numpy(zero_copy_only=False), bool)  # pyright: ignore[reportAttributeAccessIssue]


def _setting(row: dict[str, Any]) -> Setting:
    return data_name(row["data"]), row["model"], row["objective"], row["fraction"]


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["method"], row["updates"] if row["updates"] is not None else row["epochs"]
