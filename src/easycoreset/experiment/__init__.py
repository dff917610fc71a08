"""Experiments: comparisons as data, each cell done once, side by side, in any order, over as many starts as it takes.

The only part, beside the pipeline, that knows the order score -> select -> train -> evaluate.
"""

from easycoreset.experiment.cells import FULL, Cell, Experiment, Product
from easycoreset.experiment.running import preregister, run_experiment

__all__ = ["FULL", "Cell", "Experiment", "Product", "preregister", "run_experiment"]
