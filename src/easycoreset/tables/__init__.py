"""The two tables passed between commands: `Scores` (hardness of every sample) and `Coreset` (the kept samples)."""

from easycoreset.tables.coreset import Coreset, kept_count
from easycoreset.tables.same_data import Floats, Ints, check_same_data
from easycoreset.tables.scores import Scores

__all__ = ["Coreset", "Floats", "Ints", "Scores", "check_same_data", "kept_count"]
