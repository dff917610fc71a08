"""Recipes: grids as YAML files of this package or of a user; flags beside a recipe replace its values or add some."""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from easycoreset.conversion import convert, option_types
from easycoreset.data import data_name
from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.options import READING_FIELDS, CompareOptions, field_names
from easycoreset.selection import load_selector
from easycoreset.workflow.grids import AXES, NEUTRAL_TRAINING, TRAINING_AXES, Grid
from easycoreset.yaml_files import read_yaml

FOLDER = resources.files("easycoreset.workflow") / "recipes"
PLAN_OPTIONS = ("recipe", "out", "extend", "declare", "primary")  # not of a product
PRODUCT = tuple({*field_names(CompareOptions, neutral=False), *READING_FIELDS, *NEUTRAL_TRAINING} - set(PLAN_OPTIONS))
TOP = ("data", "needs", "shared", "products", "declare", "primary")
EXTENDABLE = (*AXES, "seeds", "eps", "attack", "strong")


def recipe_names() -> list[str]:
    """The names of the recipes of this package."""
    return sorted(item.name.removesuffix(".yaml") for item in FOLDER.iterdir() if item.name.endswith(".yaml"))


def recipe_text(recipe: str) -> str:
    """The YAML of a recipe.

    Raises:
        UsageError: there is no such recipe.
    """
    if recipe in recipe_names():
        return (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8")
    if not recipe.endswith((".yaml", ".yml")):
        raise UsageError(f"unknown recipe {quote(recipe)}: {suggest_name(recipe, recipe_names())} (or a .yaml file)")
    try:
        return Path(recipe).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe: {recipe}: not readable: {error}") from None


def describe_recipes() -> list[dict[str, str]]:
    """The name and the first line of every recipe."""
    return [{"name": name, "is": recipe_text(name).splitlines()[0].lstrip("# ")} for name in recipe_names()]


def read_grid(options: CompareOptions) -> Grid:
    """The grid that the options of `compare` describe: their own, or a recipe's with the flags beside it.

    Raises:
        UsageError: an unknown recipe, key or value, or a value that cannot be added.
    """
    if options.recipe is None:
        product = CompareOptions(
            **{name: getattr(options, name) for name in PRODUCT if name in options.given}, out=options.out
        )
        return Grid(name="grid", products=(product,), declares=tuple(options.declare), primary=options.primary or "")
    recipe = read_yaml(recipe_text(options.recipe), f"recipe {options.recipe}")
    _refuse_unknown(recipe, TOP, options.recipe)
    shared = recipe.get("shared") or {}
    products = recipe.get("products")
    if not isinstance(products, list) or not products or not all(isinstance(p, dict) for p in [*products, shared]):
        raise UsageError(f"recipe {options.recipe}: products must be a list of options")
    if "data" in recipe:
        shared = {"data": recipe["data"]} | shared
    raw = [_read_product(shared | product, options.recipe) for product in products]
    filled = [_replace(product, options) for product in raw]
    _require_data(recipe, filled, options)
    if options.primary and recipe.get("primary"):
        raise UsageError(f"primary: the recipe names one, {quote(recipe['primary'])}; got {quote(options.primary)}")
    declares = convert("declare", recipe.get("declare") or (), Sequence[str])
    added = [CompareOptions(**product, out=options.out) for product in _extend(filled, options)]
    return Grid(
        name=Path(options.recipe).stem,
        products=tuple(added),
        declares=(*declares, *options.declare),
        primary=options.primary or recipe.get("primary") or "",
    )


def _read_product(product: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """The options of a product: a list for an option of training, and `STEP.OPTION`, are axes."""
    known = [name for name in PRODUCT if name != "vary"]
    _refuse_unknown({key: value for key, value in product.items() if "." not in str(key)}, known, recipe)
    hints = option_types(CompareOptions)
    options: dict[str, Any] = {}
    vary: dict[str, Any] = {}
    for key, value in product.items():
        name = str(key).replace("-", "_")
        if "." in name or (name in TRAINING_AXES and isinstance(value, list)):
            vary[name] = value
        else:
            options[name] = value if name == "seeds" else convert(f"recipe {recipe}: {key}", value, hints[name])
    return options | ({"vary": vary} if vary else {})


def _refuse_unknown(values: Mapping[Any, Any], known: Sequence[str], recipe: str) -> None:
    """Refuse an unknown key, naming its line and the nearest.

    Raises:
        UsageError: there is one.
    """
    for key in values:
        if str(key).replace("-", "_") not in known:
            lines = recipe_text(recipe).splitlines()
            line = next((n for n, text in enumerate(lines, 1) if text.lstrip(" -").startswith(f"{key}:")), 0)
            close = difflib.get_close_matches(str(key).replace("-", "_"), known, n=1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"recipe {recipe}, line {line}: unknown key {quote(key)}{hint}")


def _replace(product: dict[str, Any], options: CompareOptions) -> dict[str, Any]:
    """A product with the values that were given beside the recipe."""
    given = {name: getattr(options, name) for name in PRODUCT if name in options.given}
    if {"epochs", "updates"} & set(given):
        product = {name: value for name, value in product.items() if name not in ("epochs", "updates")}
    vary = product.get("vary", {}) | given.pop("vary", {})
    vary = {name: value for name, value in vary.items() if name not in given}
    product = {name: value for name, value in product.items() if name not in vary}
    return product | given | ({"vary": vary} if vary else {})


def _require_data(recipe: Mapping[str, Any], products: Sequence[Mapping[str, Any]], options: CompareOptions) -> None:
    """Check that the data are those that the recipe is for."""
    needs = str(recipe.get("needs", ""))
    for data in (data for product in products for data in product.get("data", (None,))):
        if needs == "FOLDER":
            fits = Path(data or "").is_dir()
        else:
            fits = data is not None and (not needs or data_name(data) == needs.partition(":")[0])
        what = "an image folder" if needs == "FOLDER" else needs or "given"
        require(fits, "data", f"{what} for the recipe {options.recipe}", data)


def _extend(products: Sequence[dict[str, Any]], options: CompareOptions) -> list[dict[str, Any]]:
    """The products with the values of `extend`: a method joins those with easycore, a seed those of several seeds."""
    extended = [dict(product) for product in products]
    hints = option_types(CompareOptions)
    for name, value in options.extend.items():
        if name not in EXTENDABLE:
            raise UsageError(f"extend: {name} takes one value, or is no option: {suggest_name(name, EXTENDABLE)}")
        several = [p for p in extended if len(CompareOptions(**p, out=options.out).list_seeds()) > 1]
        for product in extended:
            if name == "seeds":
                if product in several or not several:
                    product[name] = _join_seeds(product, value, options)
            elif _takes(product, name):
                added = convert(f"extend {name}", value, hints[name], text=isinstance(value, str))
                current = product.get(name, getattr(CompareOptions(**product, out=options.out), name))
                product[name] = (*current, *(item for item in added if item not in current))
    return extended


def _takes(product: Mapping[str, Any], name: str) -> bool:
    """Whether values of an option are added to a product."""
    if name == "methods":
        return any(load_selector(method)[0] == "easycore" for method in product["methods"] if _is_selector(method))
    return name not in ("updates", "epochs") or name in product


def _is_selector(method: str) -> bool:
    return method != "full" and not method.startswith("file:")


def _join_seeds(product: Mapping[str, Any], value: Any, options: CompareOptions) -> str:
    """The seeds of a product and further ones."""
    before = CompareOptions(**product, out=options.out).list_seeds()
    added = CompareOptions(**(dict(product) | {"seeds": value}), out=options.out).list_seeds()
    return ",".join(f"{seed}-{seed}" for seed in dict.fromkeys((*before, *added)))
