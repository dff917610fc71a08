"""The compute of the rows of a comparison in epochs, which are passes over all training samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from easycoreset.statistics import Group
from easycoreset.statistics.settings import Setting

EPOCHS_NOTE = (
    "Compute is counted in epochs, which are passes over all training samples: the epochs of training alone, and the "
    "epochs of training and choosing together. Choosing is the scoring run, whose training and scoring epochs count "
    "the same (one scoring run serves all methods of its seed), or, for methods that choose while they train, their "
    "passes over all samples. An epoch of adversarial training, and a pass with an attack, cost more, by a factor of "
    "about the number of inner steps; passes for further hardness measures are not counted."
)


Counts = dict[tuple[Setting, str, str], tuple[float, float | None]]


def count_epochs(cells: Sequence[Mapping[str, Any]]) -> Counts:
    """(setting, method, budget) -> epochs of training, and with scoring and passes (None if unknown)."""
    epochs_by_row: Counts = {}
    for cell in cells:
        total = sum(cell["chosen"]["class_counts"]["before"])
        updates, epochs = cell["updates"], cell["epochs"]
        batch_size = cell["training_options"].get("batch_size")
        scoring_epochs = cell["scoring_options"].get("epochs", 0)
        passes = cell["trained"].get("sampling", {}).get("selection_passes", 0)
        if not total or batch_size is None:
            continue
        training = updates * batch_size / total if updates else epochs * cell["chosen"]["kept"] / total
        budget = f"{updates} updates" if updates else f"{epochs} epochs"
        setting = Setting(*(cell[name] for name in Setting._fields))
        epochs_by_row[setting, cell["method"], budget] = (training, training + 2 * scoring_epochs + passes)
    return epochs_by_row


def format_epochs(group: Group, epochs: Counts) -> list[Any]:
    """Both numbers of `count_epochs` for a row, rounded; None where unknown."""
    pair = epochs.get((group.setting, group.method, group.budget), (None, None))
    return [None if value is None else round(value, 1) for value in pair]
