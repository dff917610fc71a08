"""Grids of several products, as recipes of a test: planned, or run."""

import json

from easycoreset.options import CompareOptions
from easycoreset.workflow.comparing import plan_comparison, run_comparison


def recipe(folder, *products, **top):
    """A recipe file (JSON is YAML); `top` holds declare, primary and shared."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    file.write_text(json.dumps({**top, "products": list(products)}))
    return str(file)


def options(recipe, out="nowhere", **more):
    return CompareOptions(recipe=recipe, out=out, **more)


def plan(recipe, **more):
    return plan_comparison(options(recipe, **more))


def run(recipe, out, **more):
    return run_comparison(options(recipe, out, **more))
