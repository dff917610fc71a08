"""How long a recipe takes on a GPU, from the passes of its steps and the images a second of each kind of pass.

`python -m benchmarks.hour [--recipe NAME] [--rates FILE] --data cifar10:DIR`: the rates are those that `first_minutes`
measured (its JSON), or else the assumptions below. It trains nothing.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.first_minutes import RATES
from easycoreset.attacks import load_attack
from easycoreset.objectives import load_objective
from easycoreset.options import CompareOptions
from easycoreset.workflow.comparing import plan_comparison
from easycoreset.workflow.estimate import scored_epochs
from easycoreset.workflow.inputs import Inputs
from easycoreset.workflow.steps import Step, with_inputs

BATCH = 128
ASSUMED = {  # images a second of ResNet-18 at 32 pixels on one H200: 5 to 10% of its peak in each arithmetic
    "training": 25_000.0,  # bf16, batches of 128, forward and back to the weights
    "ascent": 35_000.0,  # bf16, batches of 128, forward and back to the input
    "pgd": 45_000.0,  # bf16, batches of 2,000, forward and back to the input
    "exact": 40_000.0,  # the exact pass in bf16
    "float32": 12_000.0,  # AutoAttack's passes
}
STARTUP = 8.0  # seconds of a step beside its passes: opening data, checks, writing
FEATURE_PASSES = {"adversarial": 12, "clean": 1, None: 0}


def passes_of(step: Step, samples: int, kept: int) -> Counter[str]:
    """The images of a step by kind of pass, at most: as if every attack ran all its steps on every image."""
    if step.kind == "train":
        images = step.options["updates"] * BATCH if step.options["updates"] else step.options["epochs"] * kept
        objective: Any = load_objective(step.options["objective"])[1]
        steps = getattr(objective, "steps", 0)
        return Counter({"training": images * (2 if steps else 1), "ascent": images * steps})
    if step.kind == "score":
        epochs = len(scored_epochs(step))
        return Counter({"training": step.options["epochs"] * samples, "exact": epochs * samples})
    if step.kind == "measure":
        return Counter({"exact": samples * FEATURE_PASSES[step.options["save_features"]]})
    if step.kind == "evaluate":
        attack: Any = load_attack(step.options["attack"][0])[1]
        default = getattr(attack, "steps", 1) * getattr(attack, "restarts", 1) + 2
        kind = "float32" if getattr(attack, "reference", False) else "pgd"
        return Counter({kind: (step.options["limit"] or 10_000) * getattr(attack, "passes", default)})
    return Counter()


def estimate(recipe: str, data: str, rates: dict[str, float]) -> dict[str, Any]:
    """Seconds by kind of step and in all, of one worker."""
    options = CompareOptions(recipe=recipe, data=data, device="cpu", out=Path("unwritten"))
    plan = plan_comparison(options)
    samples = len(Inputs("cpu").open(data, plan.cells[0].data.reading).source.splits["train"])
    steps = with_inputs(plan.targets)
    kept = {cell.name: int(cell.fraction * samples + 0.5) for cell in plan.cells}
    seconds, counts = Counter[str](), Counter[str]()
    for step in steps:
        kind = step.kind if step.kind != "train" else f"train {step.options['objective']}"
        kind = f"evaluate {step.options['attack'][0]}" if step.kind == "evaluate" else kind
        passes = passes_of(step, samples, kept.get(step.key, samples))
        seconds[kind] += STARTUP + sum(count / rates[name] for name, count in passes.items())
        counts[kind] += 1
    return {
        "recipe": recipe,
        "cells": len(plan.cells),
        "rates": rates,
        "startup": STARTUP,
        "steps": dict(counts),
        "seconds": {kind: round(value) for kind, value in seconds.items()},
        "minutes": round(seconds.total() / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="cifar10-paper-hour")
    parser.add_argument("--rates", type=Path, help="JSON of first_minutes")
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    rates = dict(ASSUMED)
    if given.rates is not None:
        rates |= json.loads(given.rates.read_text())[RATES]
    print(json.dumps(estimate(given.recipe, given.data, rates), indent=1))


if __name__ == "__main__":
    main()
