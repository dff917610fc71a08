"""The results of a comparison as one table for a paper: LaTeX, Markdown or CSV."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from easycoreset.console import format_eps
from easycoreset.documents import DataTable, Document, Emphasized, MeanInterval, MeanStd, Section, format_value
from easycoreset.documents.latex import render_latex
from easycoreset.documents.markdown import render_table
from easycoreset.files import write_new
from easycoreset.options import ExportOptions
from easycoreset.plan_folders import CHECKPOINT, read_cell
from easycoreset.python_objects import name_briefly
from easycoreset.reporting.contrasts import ComparisonResults
from easycoreset.reporting.setting_cells import SettingCells
from easycoreset.spreadsheet import write_csv as fill_csv
from easycoreset.statistics import Outcomes, estimate, mean_std
from easycoreset.statistics.outcomes import Bools, Floats, Row
from easycoreset.statistics.settings import Setting

SPREADS = {
    "std": "mean ± standard deviation over seeds",
    "interval": "mean and 95% interval over seeds and test images",
}
BOLD = (
    "Bold: the best of its column among the rows of one block, and those that a paired 95% interval does not "
    "distinguish from it"
)


def write_latex(options: ExportOptions) -> None:
    """Write the table for LaTeX (the document must load booktabs)."""
    _write(options, lambda table: render_latex(Document(f"results of {options.source.name}", [_section(table)])))


def write_markdown(options: ExportOptions) -> None:
    """Write the table in Markdown."""
    _write(options, lambda table: render_table(table) + "\n")


def write_csv(options: ExportOptions) -> None:
    """Write the table as CSV: means and spreads in columns of their own, as numbers."""
    table = _make(options)
    flat = [_flatten(dict(zip(table.columns, row, strict=True))) for row in table.rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    spread = [name for name in table.columns if f"{name} mean" in names]
    rows = [{name: row.get(name) for name in names if name not in spread} for row in flat]
    rows = json.loads(name_briefly(json.dumps(rows)))
    write_new(options.out, lambda path: fill_csv(pa.Table.from_pylist(rows), path, options.raw))


def make_paper_table(found: ComparisonResults, spread: str = "std") -> DataTable:
    """Clean and robust accuracy in % of every row: at each eps, under all attacks of the table together.

    Args:
        found: the results.
        spread: `std` or `interval`.
    """
    outcomes = found.outcomes
    grid = {setting: keys for setting, keys in outcomes.grid.items() if setting.options.get(CHECKPOINT) != "best"}
    settings = SettingCells(grid)
    radii = sorted({eps for setting in grid for eps in outcomes.radii(setting)})
    rows: list[list[Any]] = []
    for setting, keys in grid.items():
        unit = outcomes.budget_unit(setting)
        for budget in dict.fromkeys(budget for _, budget in keys):
            block = [key for key in keys if key[1] == budget]
            columns = [_column(outcomes, setting, block, eps, spread) for eps in (None, *radii)]
            for position, (method, _) in enumerate(block):
                known = outcomes.row(setting, block[position], outcomes.main_eps(setting))
                seeds = 0 if known is None else len(known.seeds)
                where = [*settings.of(setting, method), f"{budget} {unit}", method, seeds]
                rows.append([*where, *(column[position] for column in columns)])
    names = [*settings.columns, "budget", "method", "seeds", "clean", *(f"eps {format_eps(eps)}" for eps in radii)]
    blocks = [name for name in names[: names.index("method")] if name != "kept"]  # all data are in each share's block
    return DataTable(_caption(found, spread), names, rows, blocks=blocks)


def _column(
    outcomes: Outcomes, setting: Setting, block: Sequence[tuple[str, int]], eps: float | None, spread: str
) -> list[Any]:
    """The accuracies of a block's rows at one eps, None for clean; the best and all that may equal it are marked."""
    at = outcomes.main_eps(setting) if eps is None else eps
    rows = [outcomes.row(setting, key, at) for key in block]
    values = [None if row is None else (row.clean if eps is None else row.robust) for row in rows]
    means = [-1.0 if value is None else float(value.mean()) for value in values]
    best = means.index(max(means))
    cells: list[Any] = []
    for row, value in zip(rows, values, strict=True):
        first, best_value = rows[best], values[best]
        if row is None or value is None or first is None or best_value is None:
            cells.append(None)
            continue
        cell = _with_spread(value, spread)
        is_best = row is first or not _is_worse(row, value, first, best_value)
        cells.append(Emphasized(cell) if is_best else cell)
    return cells


def _with_spread(correct: Bools | Floats, spread: str) -> MeanStd | MeanInterval:
    if spread == "std":
        return MeanStd(*mean_std([float(100 * value) for value in correct.mean(1)]))
    found = estimate(correct.astype(float))
    return MeanInterval(*(100 * value for value in (found.mean, found.low, found.high)))


def _is_worse(row: Row, correct: Bools | Floats, best: Row, best_correct: Bools | Floats) -> bool:
    """Whether a row is worse than the best: the gap's interval is above 0, or, for one common seed, the gap itself."""
    seeds = [seed for seed in best.seeds if seed in row.seeds]
    if not seeds:
        return float(correct.mean()) < float(best_correct.mean())
    pairs = [(best_correct[best.seeds.index(seed)], correct[row.seeds.index(seed)]) for seed in seeds]
    gap = estimate(np.array([high.astype(float) - low for high, low in pairs]))
    return gap.mean > 0 if gap.low != gap.low else gap.low > 0


def _caption(found: ComparisonResults, spread: str) -> str:
    """What was measured: data, models, attacks with their options, images, and what bold says."""
    rows = found.results.to_pylist()
    names = {row["cell"] for row in rows}
    cells = (read_cell(found.folder, cell) for cell in found.record["cells"] if cell["name"] in names)
    attacks: dict[str, Mapping[str, Any]] = {}
    for entry in (entry for cell in cells if cell is not None for entry in cell["evaluated"] if not entry["strong"]):
        attacks = {**entry.get("attacks", {}), **attacks}
    described = []
    for name, fields in attacks.items():
        options = [f"{key} {format_value(value)}" for key, value in fields.items() if key not in ("strength", "eps")]
        described.append(f"{name} ({', '.join(options)})" if options else name)
    counts = sorted({(row["eps"], row["samples"]) for row in rows if not row["strong"]})
    images = ", ".join(f"{count} at eps {format_eps(eps)}" for eps, count in counts)
    what = ", ".join(dict.fromkeys(f"{row['data']}, {row['model']}" for row in rows))
    return (
        f"Accuracy in %, {SPREADS[spread]}, on {what}; attacks: {' and '.join(described)}, an image counts if it "
        f"withstands all; images: {images}. {BOLD}"
    )


def _make(options: ExportOptions) -> DataTable:
    return make_paper_table(ComparisonResults(options.source), options.spread)


def _write(options: ExportOptions, render: Any) -> None:
    text = name_briefly(render(_make(options)))
    write_new(options.out, lambda path: path.write_text(text, encoding="utf-8"))


def _section(table: DataTable) -> Section:
    return Section("Results", tables=[table])


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with a column for each number."""
    flat: dict[str, Any] = {}
    for name, given in row.items():
        value = given.value if isinstance(given, Emphasized) else given
        if isinstance(value, MeanStd | MeanInterval):
            parts = dict(zip(value._fields, value, strict=True))
            flat |= {f"{name} {part}": None if number != number else round(number, 4) for part, number in parts.items()}
            flat[f"{name} best"] = isinstance(given, Emphasized)
        else:
            flat[name] = float(value) if isinstance(value, float) else value
    return flat
