"""A grid's rows beyond the eps ball: which images are classified correctly when corrupted, or certified at a radius."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from easycoreset.errors import UsageError
from easycoreset.statistics.outcomes import Outcomes, Row
from easycoreset.statistics.settings import Setting

Floats = npt.NDArray[np.float64]


class Measure(NamedTuple):
    """What is measured of each image.

    Attributes:
        kind: a mean over corruptions, one corruption, all that are computed here at one severity, or a certificate.
        name: name of the mean, the corruption or the certificate.
        level: the severity, or the radius.
    """

    kind: Literal["mean", "corruption", "severity", "radius"]
    name: str = ""
    level: float = 0.0


Values = dict[Measure, Floats]  # each [N]: the share of times that an image is classified correctly


@dataclass
class BeyondTheBall:
    """Rows of a grid's results on corrupted images and of certified radii.

    Attributes:
        outcomes: the grid's other results.
        evaluations: name of a cell -> summaries of its evaluations beyond the ball, each with its `key`.
        load: key of an evaluation and name of a file -> the table.
    """

    outcomes: Outcomes
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]]
    load: Callable[[str, str], pa.Table]
    _rows: dict[tuple[Setting, tuple[str, int], Measure], Row | None] = field(default_factory=dict)
    _cells: dict[str, dict[Measure, tuple[str, npt.NDArray[np.int64], Floats]]] = field(default_factory=dict)

    def measures(self) -> list[Measure]:
        """All measures of any cell."""
        return list(dict.fromkeys(measure for cell in self.evaluations for measure in self._of_cell(cell)))

    def row(self, setting: Setting, key: tuple[str, int], measure: Measure) -> Row | None:
        """A row of the grid with the values of a measure as `robust`; None if none of its cells has any.

        Its `clean` is the accuracy on unchanged images; for a certificate, it is that of the smoothed model, because
        this is the model in use. If cells were evaluated on different sets of images, as can happen while a grid grows,
        the row has only the seeds with the most common set, or on a tie with the larger one.
        """
        place = (setting, key, measure)
        if place not in self._rows:
            self._rows[place] = self._read_row(setting, key, measure)
        return self._rows[place]

    def _read_row(self, setting: Setting, key: tuple[str, int], measure: Measure) -> Row | None:
        cells = {seed: names[0] for seed, names in sorted(self.outcomes.grid.get(setting, {}).get(key, {}).items())}
        found = {seed: self._of_cell(cell)[measure] for seed, cell in cells.items() if measure in self._of_cell(cell)}
        if not found:
            return None
        counts = Counter(images.tobytes() for _, images, _ in found.values())
        common = max(counts, key=lambda images: (counts[images], len(images)))
        found = {seed: entry for seed, entry in found.items() if entry[1].tobytes() == common}
        images = next(iter(found.values()))[1]
        per_seed = [self._ordinary(evaluation, images) for evaluation, _, _ in found.values()]
        clean = np.stack([right for _, right in per_seed])
        smoothed = measure._replace(level=0.0)
        if measure.kind == "radius" and smoothed in self._of_cell(cells[next(iter(found))]):
            clean = np.stack([self._of_cell(cells[seed])[smoothed][2] > 0 for seed in found])
        values = np.stack([values for _, _, values in found.values()])
        return Row(tuple(found), images, per_seed[0][0], clean, values)

    def _of_cell(self, cell: str) -> dict[Measure, tuple[str, npt.NDArray[np.int64], Floats]]:
        """Measure -> (evaluation, images [N], values [N])."""
        if cell not in self._cells:
            known: dict[Measure, tuple[str, npt.NDArray[np.int64], Floats]] = {}
            for summary in self.evaluations.get(cell, ()):
                for name, read in READERS.items():
                    if name in summary:
                        images, values = read(self.load(summary["key"], f"{name}.parquet"), summary[name])
                        known |= {measure: (summary["key"], images, value) for measure, value in values.items()}
            self._cells[cell] = known
        return self._cells[cell]

    def _ordinary(self, evaluation: str, images: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Labels, and whether the images are classified correctly as they are."""
        table = self.outcomes.load(evaluation)
        clean = np.array(table["attack"].to_pylist()) == "clean"
        order = np.argsort(table["index"].to_numpy()[clean])
        rows = np.flatnonzero(clean)[order]
        if not np.array_equal(table["index"].to_numpy()[rows], images):
            raise UsageError(f"results: evaluation {evaluation} lacks outcomes of its images")
        return table["label"].to_numpy()[rows], ~table["broken"].to_numpy(zero_copy_only=False)[rows]


def read_corrupted(table: pa.Table, summary: Mapping[str, Any]) -> tuple[npt.NDArray[np.int64], Values]:
    """The images, and of each measure the share of passes in which every image was classified correctly."""
    images, position = np.unique(table["index"].to_numpy(), return_inverse=True)
    right = (table["pred"].to_numpy() == table["label"].to_numpy()).astype(float)
    names = np.array(table["corruption"].to_pylist())
    severity = table["severity"].to_numpy()

    def share_right(rows: npt.NDArray[np.bool_]) -> Floats:
        passes = np.bincount(position[rows], minlength=len(images))
        return np.bincount(position[rows], right[rows], len(images)) / passes

    means = {name: value["of"] for name, value in summary.items() if isinstance(value, Mapping) and "of" in value}
    values: Values = {Measure("mean", name): share_right(np.isin(names, of)) for name, of in means.items()}
    for kind in summary["kinds"]:
        values[Measure("corruption", kind["corruption"])] = share_right(names == kind["corruption"])
    for level in map(int, summary["severities"]):
        values[Measure("severity", level=level)] = share_right(
            (severity == level) & np.isin(names, summary["computed"])
        )
    return images, values


def read_certified(table: pa.Table, summary: Sequence[Mapping[str, Any]]) -> tuple[npt.NDArray[np.int64], Values]:
    """The images, and whether each has at least a radius, for every radius of the summary."""
    names = np.array(table["certificate"].to_pylist())
    radius = table["radius"].to_numpy(zero_copy_only=False).astype(float)
    images = np.unique(table["index"].to_numpy())
    values: Values = {}
    for line in summary:
        rows = np.flatnonzero(names == line["certificate"])
        rows = rows[np.argsort(table["index"].to_numpy()[rows])]
        for point in line["certified"]:
            measure = Measure("radius", line["certificate"], point["radius"])
            values[measure] = (radius[rows] >= point["radius"]).astype(float)  # NaN: wrong or abstained
    return images, values


READERS: dict[str, Callable[[pa.Table, Any], tuple[npt.NDArray[np.int64], Values]]] = {
    "corruptions": read_corrupted,
    "certificates": read_certified,
}
