"""Grids: products of options, as flags or a recipe give them, and the cells that they come to."""

import dataclasses
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easycoreset.conversion import convert, option_types
from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.options import READING_FIELDS, CompareOptions, TrainingOptions, ValidationOptions, field_names
from easycoreset.options.comparing import FULL
from easycoreset.options.fields import check_rule
from easycoreset.plan_folders import CHECKPOINT, SPLIT
from easycoreset.workflow.cells import Cell, at_best_epoch, build_cell
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.steps import KINDS

MAX_STEPS = 100_000
TRAINING_AXES = (*field_names(TrainingOptions, neutral=False), *field_names(ValidationOptions))
STEP_AXES = ("score", "select", "evaluate")  # kinds whose options an axis may name as STEP.OPTION
OF_THE_PLAN = {  # options of these steps that the plan gives
    "score": {
        *("data", "model", "init", "seed", "coreset", "checkpoints", "split", "input_mean", "input_std", "out"),
        *READING_FIELDS,
    },
    "select": {
        *("data", "scores", "measured", "method", "exclude", "features", "fraction", "seed", "val_fraction", "out"),
        *READING_FIELDS,
    },
    "evaluate": {
        *("data", "weights", "model", "attack", "eps", "norm", "limit", "checks", "input_mean", "input_std", "out"),
        *READING_FIELDS,
    },
}
AXES = {  # option of `compare` with several values -> the option of a cell with one
    "data": "data",
    "model": "model",
    "objectives": "objective",
    "fractions": "fraction",
    "methods": "method",
    "updates": "updates",
    "epochs": "epochs",
}
SHARED = (
    *TRAINING_AXES,
    *READING_FIELDS,
    "init",
    "scores",
    "features",
    "norm",
    "attack",
    "eps",
    "main_eps",
    "limit",
    "strong",
    "corruptions",
    "certify",
)
Combination = tuple[Any, ...]  # the seed, then (option, value) of every axis
NEUTRAL_TRAINING = tuple(set(field_names(TrainingOptions)) - set(TRAINING_AXES))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A comparison as data.

    Attributes:
        name: the name of its recipe, or `grid`.
        products: combinations of options.
        declares: contrasts in addition to those of the products, as in `--declare`.
        primary: the contrast that is tested alone, before the others; empty for none.
    """

    name: str
    products: tuple[CompareOptions, ...]
    declares: tuple[str, ...] = ()
    primary: str = ""

    def build_cells(self, inputs: Inputs) -> list[list[Cell]]:
        """The cells of each product, in order of importance: those of its first seed, of its second, ...

        Raises:
            UsageError: an unknown member, data or a model that do not fit, or an axis that changes nothing.
        """
        count = sum(_count_steps(product) for product in self.products)
        require(count <= MAX_STEPS, "a plan", f"of at most {MAX_STEPS} steps", count)
        built = [_cells_of(product, inputs) for product in self.products]
        _refuse_idle_axes([(parse_axes(p), cells) for p, cells in zip(self.products, built, strict=True)])
        return [list(cells.values()) for cells in built]

    def at_best_epochs(self, by_product: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
        """Cells with held-out rows, evaluated at their best epoch, for products that do not vary the checkpoint.

        Held-out rows that chose the epoch cannot judge it: not with `evaluate.split`.
        """
        return [
            [at_best_epoch(cell) for cell in cells if "val_fraction" in cell.options and SPLIT not in cell.options]
            for product, cells in zip(self.products, by_product, strict=True)
            if CHECKPOINT not in product.vary
        ]


def merge_cells(by_product: Sequence[Sequence[Cell]]) -> list[Cell]:
    """The cells of all products in order of importance; a cell of several products has the evaluations of all."""
    ranks = [_rank_seeds(cells) for cells in by_product]
    order = [
        (rank, number, position)
        for number, product_ranks in enumerate(ranks)
        for position, rank in enumerate(product_ranks)
    ]
    merged: dict[str, Cell] = {}
    for _, number, position in sorted(order):
        cell = by_product[number][position]
        first = merged.setdefault(cell.name, cell)
        if first is not cell:
            known = {step.key for step, _ in first.evaluations}
            added = tuple(pair for pair in cell.evaluations if pair[0].key not in known)
            beyond = {step.key: step for step in (*first.beyond, *cell.beyond)}
            evaluations = first.evaluations + added
            merged[cell.name] = dataclasses.replace(first, evaluations=evaluations, beyond=tuple(beyond.values()))
    return list(merged.values())


def _rank_seeds(cells: Sequence[Cell]) -> list[int]:
    """For every cell, whether it is of the first seed of its product, of the second, ..."""
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return [seeds.index(cell.seed) for cell in cells]


def parse_axes(options: CompareOptions) -> dict[str, tuple[Any, ...]]:
    """The values of the axes in `vary`.

    Raises:
        UsageError: an unknown option or value.
    """
    return {name: _parse_axis(name, values) for name, values in options.vary.items()}


def _parse_axis(name: str, values: Any) -> tuple[Any, ...]:
    kind, _, option = name.rpartition(".")
    if not kind and option in TRAINING_AXES:
        kind = "train"
    elif not kind:
        owners = [step for step in STEP_AXES if option in _axes_of(step)]
        if option in AXES or option in ("seeds", "fraction", "method", "objective"):
            raise UsageError(f"vary: {option} has a separate flag, which takes several values")
        if owners:
            raise UsageError(
                f"vary: {option} is not an option of training; say {' or '.join(f'{o}.{option}' for o in owners)}"
            )
        raise UsageError(f"vary: unknown option {quote(option)} of training: {suggest_name(option, TRAINING_AXES)}")
    elif kind not in STEP_AXES:
        raise UsageError(f"vary: unknown step {quote(kind)}: {suggest_name(kind, STEP_AXES)}")
    elif option not in _axes_of(kind):
        raise UsageError(f"vary: unknown option {quote(option)} of {kind}: {suggest_name(option, _axes_of(kind))}")
    options = KINDS[kind].options
    hint = option_types(options)[option]
    field = next(item for item in dataclasses.fields(options) if item.name == option)
    is_list = typing.get_origin(hint) is Sequence  # one value, which is a list
    if isinstance(values, str):
        items = [values] if is_list else values.split(",")
    else:
        items = values if isinstance(values, list | tuple) and not is_list else [values]
    parsed = tuple(convert(f"vary {name}", item, hint, text=isinstance(item, str)) for item in items)
    for value in parsed:
        check_rule(f"vary {name}", value, field.metadata)
    require(len(set(parsed)) == len(parsed) > 0, f"vary {name}", "values given once each", values)
    return parsed


def _axes_of(kind: str) -> list[str]:
    """The options of a step that an axis may name."""
    names = field_names(KINDS[kind].options)
    neutral = set(names) - set(field_names(KINDS[kind].options, neutral=False))
    left_out = neutral - {"feature_layer", *KINDS[kind].of_machine}
    return [name for name in names if name not in OF_THE_PLAN[kind] | left_out]


def _count_steps(product: CompareOptions) -> int:
    """An upper bound on the number of steps of a product."""
    axes = [len(getattr(product, name)) or 1 for name in AXES] + [
        len(values) for values in parse_axes(product).values()
    ]
    cells = len(product.list_seeds())
    for size in axes:
        cells *= size
    beyond = len(product.strong) + len(product.corruptions) + len(product.certify)
    return cells * (3 + len(product.attack) * len(product.eps) + beyond)


def _cells_of(product: CompareOptions, inputs: Inputs) -> dict[Combination, Cell]:
    """The cells of a product, seed by seed, each with the values of its axes."""
    names = (*SHARED, *NEUTRAL_TRAINING)
    shared = {name: getattr(product, name) for name in names} | {"updates": None, "epochs": None}
    axes = parse_axes(product)
    cells: dict[Combination, Cell] = {}
    for seed in product.list_seeds():
        shared |= {"seed": seed, "first_seed": seed == product.list_seeds()[0]}
        for values in _combinations(product, axes):
            cell = build_cell(shared | values, inputs)
            cells[seed, *values.items()] = cell
            controls = [name for name in ("random", *product.controls) if name != FULL]
            for method in controls if cell.method.startswith("file:") else ():  # at the fraction that the file keeps
                compared = values | {"method": method, "fraction": cell.fraction}
                cells[seed, *compared.items()] = build_cell(shared | compared, inputs)
    for option in ("scores", "features"):
        given = getattr(product, option)
        read = any(option in cell.steps["select"].inputs for cell in cells.values() if "select" in cell.steps)
        require(given is None or read, option, "left out where no method reads them", str(given))
    return cells


def _combinations(product: CompareOptions, axes: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Yield each combination of one value of every axis except the seed."""
    methods = [*product.methods, *(name for name in product.controls if name not in product.methods)]
    names = {name: tuple(getattr(product, name)) for name in AXES} | {"methods": tuple(methods)}
    several: dict[str, tuple[Any, ...]] = {AXES[name]: values for name, values in names.items() if values} | dict(axes)
    several.setdefault("model", (None,))
    for values in itertools.product(*several.values()):
        yield dict(zip(several, values, strict=True))


def _refuse_idle_axes(products: Sequence[tuple[Mapping[str, tuple[Any, ...]], Mapping[Combination, Cell]]]) -> None:
    """Refuse an axis of several values that lead to the same steps everywhere.

    Raises:
        UsageError: an axis changes nothing.
    """
    steps_by_axis: dict[str, dict[tuple[Any, ...], set[tuple[str, ...]]]] = {}
    for number, (axes, cells) in enumerate(products):
        for name in (name for name, values in axes.items() if len(values) > 1):
            groups = steps_by_axis.setdefault(name, {})
            for combination, cell in cells.items():
                others = (number, *(part for part in combination if isinstance(part, int) or part[0] != name))
                groups.setdefault(others, set()).add(tuple(step.key for step in cell.targets))
    for name, groups in steps_by_axis.items():
        if all(len(group) == 1 for group in groups.values()):
            raise UsageError(f"vary: {name} changes nothing here: no step of these methods uses it")


def describe_product(product: CompareOptions) -> dict[str, Any]:
    """A product as JSON values: the options that were given, without those that do not change results."""
    names = [name for name in field_names(CompareOptions, neutral=False) if name in product.given]
    return {name: _plain(getattr(product, name)) for name in names if name not in ("recipe", "out", "extend")}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
