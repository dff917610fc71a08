"""The two tables that travel between commands: `Scores` (hardness of every sample) and `Coreset` (what is kept)."""

from easycoreset.tables.coreset import Coreset, kept_count
from easycoreset.tables.scores import Floats, Ints, Scores, check_same_data

__all__ = ["Coreset", "Floats", "Ints", "Scores", "check_same_data", "kept_count"]
