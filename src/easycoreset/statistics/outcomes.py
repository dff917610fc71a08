"""Per-image outcomes of a grid's rows, as arrays over seeds and test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from easycoreset.errors import UsageError
from easycoreset.options.comparing import FULL
from easycoreset.statistics.settings import Setting, group_by_setting

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OutcomeLoader = Callable[[str], pa.Table]  # evaluation -> its outcomes: index, label, attack, eps, broken
Seeds = dict[tuple[str, int], dict[int, list[str]]]  # (method, budget) -> seed -> cells


@dataclass(frozen=True)
class Row:
    """All seeds of one row of a grid at one eps.

    Attributes:
        seeds: seeds of the cells.
        images: [N] index of each test image.
        labels: [N] class of each test image.
        clean: [seeds, N] whether classified correctly without an attack.
        robust: [seeds, N] whether classified correctly under every attack; with several passes, in which share of them.
    """

    seeds: tuple[int, ...]
    images: Integers
    labels: Integers
    clean: Bools
    robust: Bools | Floats

    def select_seeds(self, seeds: Sequence[int]) -> "Row":
        """The same row, restricted to some of its seeds."""
        positions = [self.seeds.index(seed) for seed in seeds]
        return Row(tuple(seeds), self.images, self.labels, self.clean[positions], self.robust[positions])


@dataclass
class Outcomes:
    """The rows of a results table, read once.

    Attributes:
        results: results table as `compare` writes it.
        load: key of an evaluation -> its outcomes.
    """

    results: pa.Table
    load: OutcomeLoader
    _row_cache: dict[Any, Row | None] = field(default_factory=dict[Any, Row | None])

    def __post_init__(self) -> None:
        self.load = cache(self.load)

    @cached_property
    def _all_rows(self) -> list[dict[str, Any]]:
        """The rows of the table, without those that summarise all attacks."""
        return [row for row in self.results.to_pylist() if row["attack"] != "worst"]

    @cached_property
    def _attack_rows(self) -> list[dict[str, Any]]:
        """The rows of attacks that are part of the worst case."""
        return [row for row in self._all_rows if not row["strong"]]

    @cached_property
    def _by_cell(self) -> dict[str, list[dict[str, Any]]]:
        by_cell: dict[str, list[dict[str, Any]]] = {}
        for row in self._all_rows:
            by_cell.setdefault(row["cell"], []).append(row)
        return by_cell

    def _rows_in(self, setting: Setting) -> list[dict[str, Any]]:
        """The table's rows of a setting, whatever its fraction."""
        return [row for row in self._attack_rows if setting.holds(Setting.of(row), FULL)]

    @cached_property
    def grid(self) -> dict[Setting, Seeds]:
        """Setting -> (method, budget) -> seed -> cells; `full` is in the settings of all fractions.

        A seed has several cells if the code changed in between; the current one comes first.
        """
        cells_by_setting: dict[Setting, Seeds] = {}
        for setting, rows in group_by_setting(self._attack_rows, Setting.of, lambda row: row["method"]).items():
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
        cells = {cell for seeds in self.grid[setting].values() for group in seeds.values() for cell in group}
        return list(dict.fromkeys(row["attack"] for row in self._all_rows if row["strong"] and row["cell"] in cells))

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
        rows = [row for row in self._by_cell[cell] if np.isclose(row["eps"], eps)]
        rows = [row for row in rows if (not row["strong"] if strong is None else row["attack"] == strong)]
        read = [_read_outcomes(self.load(key), eps, strong) for key in dict.fromkeys(row["evaluation"] for row in rows)]
        if not read or not len(read[0][0]):
            return None
        images, labels, clean, robust = read[0]
        for other_images, _, _, other_robust in read[1:]:
            if not np.array_equal(images, other_images):
                raise UsageError(f"results: the attacks on cell {cell} at eps {eps:g} were on different images")
            robust = robust & other_robust
        return images, labels, clean, robust


def _read_outcomes(table: pa.Table, eps: float, attack: str | None) -> tuple[Integers, Integers, Bools, Bools]:
    """(images, labels, clean, robust) of one evaluation at one eps, under one of its attacks or all of them."""
    index = table["index"].to_numpy()
    broken = table["broken"].to_numpy(zero_copy_only=False)
    labels = table["label"].to_numpy() if "label" in table.column_names else np.zeros(len(index), np.int64)
    clean = _is_attack(table, "clean")
    attacked = ~clean & np.isclose(table["eps"].to_numpy(), eps)
    attacked &= True if attack is None else _is_attack(table, attack)
    images = np.unique(index[attacked])
    broken_images = np.zeros(len(images), bool)
    np.logical_or.at(broken_images, np.searchsorted(images, index[attacked]), broken[attacked])
    order = np.argsort(index[clean])
    clean_rows = order[np.searchsorted(index[clean][order], images)]
    return images.astype(np.int64), labels[clean][clean_rows], ~broken[clean][clean_rows], ~broken_images


def _is_attack(table: pa.Table, name: str) -> Bools:
    return np.asarray(pc.equal(table["attack"], name).to_numpy(zero_copy_only=False), bool)  # pyright: ignore[reportAttributeAccessIssue]


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["method"], row["updates"] if row["updates"] is not None else row["epochs"]
