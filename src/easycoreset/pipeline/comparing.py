"""A comparison of coreset methods in one call: the table of results and the contrasts."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from easycoreset.errors import require
from easycoreset.experiment import preregister, run_experiment
from easycoreset.experiment.declared_contrasts import DeclaredContrasts
from easycoreset.options import CompareOptions, accept_options
from easycoreset.pipeline.experiment_options import build_experiment
from easycoreset.reporting.contrasts import measure_contrasts
from easycoreset.statistics import Contrast


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        results: one row per cell, attack and radius, as in `results.parquet`.
        contrasts: the declared contrasts first, then every method against random and all data; each has a `verdict` and
            a `sentence()`.
        out: the folder of the comparison, from which `report` writes its page.
    """

    results: pa.Table
    contrasts: list[Contrast]
    out: Path

    def __repr__(self) -> str:
        """The declared contrasts, one per line."""
        cells = len(set(self.results["cell"].to_pylist()))
        declared = [contrast.describe() for contrast in self.contrasts if contrast.declared]
        return "\n".join([f"Comparison of {cells} cells in {self.out}", *declared])


@accept_options(CompareOptions)
def compare(options: CompareOptions) -> Comparison:
    """Compare coreset methods over fractions, objectives, budgets and seeds; finished cells in `out` are not run again.

    Worker processes do the work, and they import the calling script: keep the call in a script under
    `if __name__ == "__main__":`.

    Raises:
        UsageError: wrong use, before work starts.
        GridError: some cells failed; the others are done.
    """
    for name in ("dry_run", "preregister"):
        require(not getattr(options, name), name, "left to the command line", True)
    results = run_comparison(options)
    return Comparison(results=results, contrasts=measure_contrasts(options.out, results), out=options.out)


def run_comparison(
    options: CompareOptions, render_progress: Callable[[pa.Table], Any] = lambda table: None
) -> pa.Table:
    """Run the cells; `render_progress` is passed to `run_experiment`."""
    is_worker_import = getattr(multiprocessing.current_process(), "_inheriting", False)
    require(
        not is_worker_import,
        "compare",
        'called under `if __name__ == "__main__":`',
        "a call in a script that workers import",
    )
    return run_experiment(
        build_experiment(options),
        options.out,
        workers=options.workers,
        on=options.on,
        device=options.device,
        keep_weights=options.keep_weights,
        num_workers=options.num_workers,
        minutes=options.minutes,
        shard=options.parse_shard(),
        overwrite=options.overwrite,
        render_progress=render_progress,
    )


def preregister_comparison(options: CompareOptions) -> DeclaredContrasts:
    """Write the plan, its declared contrasts and its seeds into `out`; no cell is run.

    Raises:
        UsageError: wrong use, or `out` holds evaluated cells.
    """
    return preregister(build_experiment(options), options.out)
