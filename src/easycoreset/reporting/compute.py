"""What the rows of a comparison cost, in epochs: passes over all training samples."""

from collections.abc import Mapping
from typing import Any

from easycoreset.own_modules import is_own
from easycoreset.selection import load_selector, required_inputs
from easycoreset.statistics import Group
from easycoreset.statistics.planned import FULL

EPOCHS = (
    "Compute is counted in epochs, passes over all training samples: of training, and with the run that the scores "
    "come from, whose epochs of training and of scoring count alike; it serves every method of its seed. An epoch of "
    "adversarial training costs as many more as it has inner steps; passes of further hardnesses are not counted."
)


def count_epochs(cells: Mapping[str, dict[str, Any]]) -> dict[tuple[str, float, str, str], tuple[float, float | None]]:
    """(method, fraction, objective, budget) -> epochs of training, and with scoring; None where that is not known."""
    found: dict[tuple[str, float, str, str], tuple[float, float | None]] = {}
    for record in cells.values():
        options = record["options"]
        total = sum(record["class_counts"]["before"])
        updates = options.get("updates")
        epochs = options.get("epochs")
        batch = options.get("batch_size")
        scoring = options.get("scoring_epochs")
        if not total or None in (updates or epochs, batch, scoring):
            continue
        training = updates * batch / total if updates else epochs * record["kept"] / total
        scored = uses_scores(options["method"])
        whole = None if scored is None else training + 2 * scoring * scored
        budget = f"{updates} updates" if updates else f"{epochs} epochs"
        found[options["method"], options["fraction"], options["objective"], budget] = (training, whole)
    return found


def find_epochs(group: Group, epochs: Mapping[tuple[str, float, str, str], tuple[float, float | None]]) -> list[Any]:
    """The two figures of a row."""
    found = epochs.get((group.method, group.fraction, group.objective, group.budget), (None, None))
    return [None if value is None else round(value, 1) for value in found]


def uses_scores(method: str) -> bool | None:
    """Whether a method looks at scores; None for one of a user's own module, which is not imported here."""
    if method == FULL or method.startswith("file"):
        return False
    return None if is_own(method) else required_inputs(load_selector(method)[1]) != ()
