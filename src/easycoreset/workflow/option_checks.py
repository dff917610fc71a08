"""Checks that find errors in the options of a long command before it starts."""

from collections.abc import Sequence
from pathlib import Path

from easycoreset.attacks import load_attack
from easycoreset.data import Source
from easycoreset.data.unscored import unscored_table
from easycoreset.selection.published import read_sample_list


def check_attacks(attacks: Sequence[str], eps: Sequence[float]) -> None:
    """Load every attack at every radius.

    Raises:
        UsageError: an attack or one of its options is unknown.
    """
    for spec in attacks:
        for value in eps:
            load_attack(spec, norm="linf", eps=value)


def check_sample_list(option: str, file: Path | None, source: Source) -> None:
    """Read a list of samples, if one is given, and find its samples in the training split.

    Raises:
        UsageError: the list is missing, unreadable, or has samples that are not in the split.
    """
    if file is not None:
        read_sample_list(option, file, unscored_table(source))
