"""Choosing a coreset as a step of a plan: from a scoring run and what was measured besides, or from the data alone."""

import dataclasses
import time

import numpy as np

from easycoreset.data.unscored import unscored_table
from easycoreset.memory import measure_peak
from easycoreset.options import ChooseOptions, ValidationOptions, accept_options, options_json, values_of
from easycoreset.options.groups import FractionOptions, SelectionOptions
from easycoreset.run_folders import open_run_folder
from easycoreset.scoring import scores_file
from easycoreset.selection import choose
from easycoreset.tables import Coreset, Scores
from easycoreset.tables.coreset import find_lost_classes
from easycoreset.tables.scores import ARRAYS
from easycoreset.training.setup import open_data

CHOICE = (SelectionOptions, FractionOptions, ValidationOptions)  # the groups of options that `choose` takes


@accept_options(ChooseOptions)
def choose_coreset(options: ChooseOptions) -> Coreset:
    """Write `coreset.parquet`, and what choosing cost, into the folder `out`.

    Raises:
        UsageError: as for `choose`.
    """
    scores = _read_scores(options)

    def choose_timed() -> tuple[Coreset, float]:
        start = time.monotonic()
        coreset = choose(
            scores, seed=options.seed, **{k: v for group in CHOICE for k, v in values_of(options, group).items()}
        )
        return coreset, round(time.monotonic() - start, 3)

    identity = options_json(options, neutral=False) | {"scores": None, "measured": None, "data": None}
    with open_run_folder(options.out, "select", identity, overwrite=options.overwrite) as folder:
        (coreset, seconds), peak = measure_peak(choose_timed)
        coreset.write(options.out / "coreset.parquet")
        weights = coreset.weight[coreset.keep]
        folder.finish(
            summary={
                "kept": len(coreset),
                "class_counts": coreset.provenance["class_counts"],
                "selection_seconds": seconds,
                "selection_mb": peak,
                "weights": [float(weights.min()), float(weights.max())],
                "warnings": _empty_class_warnings(coreset),
            }
        )
    return coreset


def _read_scores(options: ChooseOptions) -> Scores:
    """The table that the method reads."""
    if options.scores is None:
        return unscored_table(open_data(options)[1])
    scores = Scores.read(options.scores)
    if options.measured is None:
        return scores
    measured = Scores.read(scores_file(options.measured, "train"))
    arrays = {name: getattr(measured, name) for name in (*ARRAYS, "bias", "features_problem")}
    return dataclasses.replace(scores, columns=scores.columns | measured.columns, **arrays)


def _empty_class_warnings(coreset: Coreset) -> list[str]:
    """A warning if the coreset has no sample of some classes."""
    counts = coreset.provenance["class_counts"]
    emptied, _ = find_lost_classes(np.array(counts["before"]), np.array(counts["after"]))
    return [f"the coreset holds no sample of {len(emptied)} of {len(counts['before'])} classes"] if len(emptied) else []
