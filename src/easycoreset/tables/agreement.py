"""Agreement of two hardness measures on the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SHARES = (0.1, 0.3, 0.5)  # of all samples, the easiest first
Numbers = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two columns.

    Attributes:
        column: column of the first table.
        other: column of the second table.
        samples: number of samples with both values.
        spearman: rank correlation; NaN if a column is constant.
        overlap: share of the easiest samples -> share of these that both columns have in common.
        per_class: class name -> rank correlation within the class.
    """

    column: str
    other: str
    samples: int
    spearman: float
    overlap: dict[float, float]
    per_class: dict[str, float]

    def record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            "other": self.other,
            "samples": self.samples,
            "spearman": json_number(self.spearman),
            "overlap": {f"{share:g}": json_number(value) for share, value in self.overlap.items()},
            "per_class": {name: json_number(value) for name, value in self.per_class.items()},
        }


def json_number(value: float) -> float | None:
    """Round a number for JSON; None if it is not finite."""
    return round(value, 6) if np.isfinite(value) else None


def argsort_easiest_first(values: Numbers) -> npt.NDArray[np.int64]:
    """Rows by ascending value; ties in one seeded order, since rows may be sorted by class."""
    shuffled = np.random.default_rng(0).permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]


def compare_columns(
    column: str,
    other: str,
    values: Numbers,
    other_values: Numbers,
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str] = (),
) -> Agreement:
    """Compare two columns [N] of the same samples; samples without a value in both are left out.

    Ties are settled in one seeded order for both columns before the easiest samples are compared.
    """
    both = np.flatnonzero(np.isfinite(values) & np.isfinite(other_values))
    a = values[both]
    b = other_values[both]
    y = labels[both]
    order = [argsort_easiest_first(values) for values in (a, b)]
    overlap: dict[float, float] = {}
    for share in SHARES:
        count = int(share * len(both) + 0.5)
        common = len(np.intersect1d(order[0][:count], order[1][:count]))
        overlap[share] = common / count if count else float("nan")
    names: dict[int, str] = {int(k): class_names[int(k)] if k < len(class_names) else str(k) for k in np.unique(y)}
    per_class = {name: spearman(a[y == k], b[y == k]) for k, name in names.items()}
    return Agreement(
        column=column, other=other, samples=len(both), spearman=spearman(a, b), overlap=overlap, per_class=per_class
    )


def spearman(a: Numbers, b: Numbers) -> float:
    """Spearman's rank correlation, ties with their mean rank; NaN if a column is constant."""
    from scipy.stats import rankdata  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if len(a) < 2:
        return float("nan")
    ranks = np.stack([np.asarray(rankdata(values), np.float64) for values in (a, b)])
    ranks -= ranks.mean(1, keepdims=True)
    norm = float(np.sqrt(np.square(ranks).sum(1).prod()))
    return float((ranks[0] * ranks[1]).sum() / norm) if norm > 0 else float("nan")
