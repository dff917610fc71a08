"""Pictures that are there more than once: exact copies, near copies, and copies in the other part."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from easycoreset.auditing.pictures import PictureFacts
from easycoreset.progress import progress

Ints = npt.NDArray[np.int64]

MAX_DISTANCE = 8  # near copies differ in at most this many of the 64 bits of the perceptual hash
MAX_THUMBNAIL_DISTANCE = 0.07  # largest distance of near copies: 1 minus the correlation of their grey thumbnails
NEAREST_SHARE = 0.25  # the same limit, as a share of the median distance between a picture and its nearest neighbour
MEDIAN_SAMPLES = (1_000, 10_000)  # pictures for this median, and pictures among which their neighbours are looked for
CHUNK = 512  # pictures that are compared with all others at a time
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif")
COPY_NAME = re.compile(
    r"(?:[\s_(-]|^)(?:copy|copie|copia|kopie|kopia|duplicate|副本|コピー)(?:[\s_-]*\(?\d+\)?|\))?$|\(\d+\)$"
    r"|^(?:copy of|kopie von|copie de|copia de)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Copies:
    """Groups of copies among N pictures.

    Attributes:
        group: [N] number of the group; -1 for a picture without copies.
        original: [N] row of the picture that is kept of the group; -1 for this picture and for one without copies.
        similarity: [N] correlation with the original, 1 for an exact copy; 0 without an original.
        exact: [N] whether the pixels equal the original's.
    """

    group: Ints
    original: Ints
    similarity: npt.NDArray[np.float64]
    exact: npt.NDArray[np.bool_]


def find_copies(facts: PictureFacts, digests: Sequence[bytes], names: Sequence[str], is_test: Sequence[bool]) -> Copies:
    """Find exact and near copies among the pictures of all parts together.

    One picture of each group is kept. The criteria are, in this order: it is in the test part, its name is not that of
    a copy, it is the largest, its format is lossless, its name is the shortest.

    Args:
        facts: of all pictures.
        digests: [N] hashes of their pixels, as the model gets them.
        names: [N] their sample ids.
        is_test: [N] whether they are of the test part.
    """
    count = len(digests)
    numbers = np.unique(np.array(digests, dtype="S16"), return_inverse=True)[1] if count else np.empty(0, np.int64)
    first_of = np.full(count, -1, np.int64)
    first_of[numbers[::-1]] = np.arange(count)[::-1]
    exact_pairs = np.stack([first_of[numbers], np.arange(count)], 1)
    pairs = np.concatenate([exact_pairs, find_similar_pairs(facts)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component, minlength=1)
    group = np.full(count, -1, np.int64)
    original = np.full(count, -1, np.int64)
    members = np.flatnonzero(sizes[component] > 1)
    by_component: dict[int, list[int]] = {}
    for row in members.tolist():
        by_component.setdefault(int(component[row]), []).append(row)
    for number, rows in enumerate(by_component.values()):
        kept = min(rows, key=lambda row: _copy_order(facts, names[row], row, is_test[row]))
        group[rows] = number
        original[rows] = kept
        original[kept] = -1
    thumbnails = facts.thumbnail.astype(np.float64)
    similarity = np.where(original >= 0, np.sum(thumbnails * thumbnails[original], 1).clip(0, 1), 0.0)
    exact = (original >= 0) & (numbers == numbers[original])
    return Copies(group, original, np.where(exact, 1.0, similarity), exact)


def _copy_order(facts: PictureFacts, name: str, row: int, is_test: bool) -> tuple[object, ...]:
    path = PurePath(name)
    pixels = int(facts.width[row]) * int(facts.height[row])
    return not is_test, is_copy_name(path.stem), -pixels, path.suffix.lower() in LOSSY, len(path.name), row


def is_copy_name(stem: str) -> bool:
    """Whether a file's name without its suffix says that it is a copy.

    >>> [is_copy_name(name) for name in ("cat copy", "cat (1)", "Copy of cat", "cat - Kopie (2)", "copycat", "IMG_1")]
    [True, True, True, True, False, False]
    """
    return COPY_NAME.search(stem) is not None


def find_similar_pairs(facts: PictureFacts) -> Ints:
    """Find pairs of pictures with similar perceptual hashes and thumbnails, [P, 2]; a picture of one colour is in none.

    If all pictures are similar, as digits are, near copies must be more similar than that.
    """
    hashes = facts.hash
    thumbnails = facts.thumbnail.astype(np.float32)
    similar = 1 - min(MAX_THUMBNAIL_DISTANCE, NEAREST_SHARE * _median_nearest(thumbnails))
    found: list[Ints] = []
    with progress("comparing pictures", len(hashes)) as bar:
        for start in range(0, len(hashes), CHUNK):
            chunk = hashes[start : start + CHUNK]
            distance = np.bitwise_count(chunk[:, None] ^ hashes[None, start:])
            first, second = (rows + start for rows in np.nonzero(distance <= MAX_DISTANCE))
            first, second = first[first < second], second[first < second]
            alike = np.einsum("nd,nd->n", thumbnails[first], thumbnails[second]) >= similar
            found.append(np.stack([first[alike], second[alike]], 1))
            bar.advance(len(chunk))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _median_nearest(thumbnails: npt.NDArray[np.float32]) -> float:
    """The median distance of a picture to its nearest other."""
    rows = np.random.default_rng(0).permutation(len(thumbnails))[: MEDIAN_SAMPLES[1]]
    count = min(MEDIAN_SAMPLES[0], len(rows))
    correlation = thumbnails[rows[:count]] @ thumbnails[rows].T
    correlation[np.arange(count), np.arange(count)] = -1
    return float(np.median(1 - correlation.max(1))) if len(rows) > 1 else 0.0
