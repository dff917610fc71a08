"""Training and test part of a data set by the usual words for them, in any case and company."""

import re
import unicodedata
from collections.abc import Iterable

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev", "holdout")
TAILS = ("", "set", "data", "images", "imgs", "split", "part")  # that are written together with them


def fold_name(name: str) -> str:
    """A name as it is compared: composed accents, whatever system wrote it."""
    return unicodedata.normalize("NFC", name)


def part_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The word for a part in a name, as `TRAIN` and `TEST` spell it, and the name's other words; None without one.

    >>> part_of("Training_set"), part_of("seg_test"), part_of("trainset"), part_of("station")
    (('training', ('set',)), ('test', ('seg',)), ('train', ()), None)
    """
    words = re.findall(r"[a-z]+|[0-9]+", fold_name(name).lower())
    meant = [
        next((part for part in (*TRAIN, *TEST) if word in [part + tail for tail in TAILS]), None) for word in words
    ]
    found = [part for part in meant if part is not None]
    if len(found) != 1:
        return None
    return found[0], tuple(word for word, part in zip(words, meant, strict=True) if part is None)


def choose_parts(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names that are training parts, and those that are test parts, each the likeliest first.

    Names without further words come first, then those with the words of the training part, then by `TEST`'s order.
    """
    known = {name: found for name in sorted(names) if (found := part_of(name)) is not None}
    train = [name for name, (part, _) in known.items() if part in TRAIN]
    train.sort(key=lambda name: (len(known[name][1]), TRAIN.index(known[name][0])))
    rest = known[train[0]][1] if train else ()
    test = [name for name, (part, _) in known.items() if part in TEST]
    test.sort(key=lambda name: (known[name][1] != rest, TEST.index(known[name][0])))
    return train, test
