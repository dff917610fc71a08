"""Checks that find errors in the options of a long command before it starts."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.attacks import load_attack, needs_surrogate
from easycoreset.data import Source
from easycoreset.data.unscored import unscored_table
from easycoreset.errors import require
from easycoreset.selection.published import read_sample_list


def check_attacks(attacks: Sequence[str], eps: Sequence[float]) -> None:
    """Load every attack at every radius.

    Raises:
        UsageError: an attack or one of its options is unknown.
    """
    for spec in attacks:
        for value in eps:
            attack = load_attack(spec, norm="linf", eps=value)[1]
            require(not needs_surrogate(attack), "attack", f"{spec}:from=DIR, the folder of another model", spec)


def check_sample_list(option: str, file: Path | None, source: Source) -> None:
    """Read a list of samples, if one is given, and find its samples in the training split.

    Raises:
        UsageError: the list is missing, unreadable, or has samples that are not in the split.
    """
    if file is not None:
        read_sample_list(option, file, unscored_table(source))
