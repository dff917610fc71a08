"""Experiments: comparisons as data. Each cell is computed once, in parallel, in any order, over any number of starts.

Only this package and `pipeline` contain the order score -> select -> train -> evaluate.
"""

from easycoreset.experiment.cells import Cell, Experiment, Product
from easycoreset.experiment.scheduler import preregister, run_experiment
from easycoreset.options.comparing import FULL

__all__ = ["FULL", "Cell", "Experiment", "Product", "preregister", "run_experiment"]
