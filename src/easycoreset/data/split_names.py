"""Recognise training and test split of a data set by their usual names, in any case and beside other words."""

import re
import unicodedata
from collections.abc import Iterable

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev", "holdout")
SUFFIXES = ("", "set", "data", "images", "imgs", "split", "part")  # that may follow the word, as in "trainset"


def normalise_name(name: str) -> str:
    """Normalise a name for comparison: operating systems encode accents differently."""
    return unicodedata.normalize("NFC", name)


def parse_split_name(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The word of `TRAIN` or `TEST` in a name, and the other words of the name; None unless there is exactly one.

    >>> [parse_split_name(name) for name in ("Training_set", "seg_test", "trainset", "station")]
    [('training', ('set',)), ('test', ('seg',)), ('train', ()), None]
    """
    words = re.findall(r"[a-z]+|[0-9]+", normalise_name(name).lower())
    matches = [
        next((part for part in (*TRAIN, *TEST) if word in [part + suffix for suffix in SUFFIXES]), None)
        for word in words
    ]
    matched = [part for part in matches if part is not None]
    if len(matched) != 1:
        return None
    return matched[0], tuple(word for word, part in zip(words, matches, strict=True) if part is None)


def choose_splits(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of training splits and those of test splits, each the likeliest first.

    Training: fewest further words first. Test: the further words of the training split first, then `TEST`'s order.
    """
    known = {name: match for name in sorted(names) if (match := parse_split_name(name)) is not None}
    train = [name for name, (part, _) in known.items() if part in TRAIN]
    train.sort(key=lambda name: (len(known[name][1]), TRAIN.index(known[name][0])))
    rest = known[train[0]][1] if train else ()
    test = [name for name, (part, _) in known.items() if part in TEST]
    test.sort(key=lambda name: (known[name][1] != rest, TEST.index(known[name][0])))
    return train, test
