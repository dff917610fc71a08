"""The compute of the rows of a comparison in epochs, which are passes over all training samples."""

from collections.abc import Mapping
from typing import Any

from easycoreset.options.comparing import FULL
from easycoreset.selection import load_selector, required_inputs
from easycoreset.statistics import Group
from easycoreset.user_modules import is_user_spec

EPOCHS_NOTE = (
    "Compute is counted in epochs, which are passes over all training samples: those of training alone, and together "
    "with the scoring run, whose training and scoring epochs count the same; one scoring run serves all methods of its "
    "seed. An epoch of adversarial training costs more by a factor of about its inner steps; passes for further "
    "hardnesses are not counted."
)


def count_epochs(cells: Mapping[str, dict[str, Any]]) -> dict[tuple[str, float, str, str], tuple[float, float | None]]:
    """(method, fraction, objective, budget) -> epochs of training, and with scoring (None if unknown)."""
    epochs_by_row: dict[tuple[str, float, str, str], tuple[float, float | None]] = {}
    for record in cells.values():
        options = record["options"]
        total = sum(record["class_counts"]["before"])
        updates = options.get("updates")
        epochs = options.get("epochs")
        batch_size = options.get("batch_size")
        scoring_epochs = options.get("scoring_epochs")
        if not total or None in (updates or epochs, batch_size, scoring_epochs):
            continue
        training = updates * batch_size / total if updates else epochs * record["kept"] / total
        scored = method_uses_scores(options["method"])
        with_scoring = None if scored is None else training + 2 * scoring_epochs * scored
        budget = f"{updates} updates" if updates else f"{epochs} epochs"
        epochs_by_row[options["method"], options["fraction"], options["objective"], budget] = (training, with_scoring)
    return epochs_by_row


def format_epochs(group: Group, epochs: Mapping[tuple[str, float, str, str], tuple[float, float | None]]) -> list[Any]:
    """Both numbers of `count_epochs` for a row, rounded; None where unknown."""
    pair = epochs.get((group.method, group.fraction, group.objective, group.budget), (None, None))
    return [None if value is None else round(value, 1) for value in pair]


def method_uses_scores(method: str) -> bool | None:
    """Whether a method uses scores; None for a method from a user's module, which is not imported here."""
    if method == FULL or method.startswith("file"):
        return False
    return None if is_user_spec(method) else required_inputs(load_selector(method)[1]) != ()
