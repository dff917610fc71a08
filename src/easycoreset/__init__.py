"""Choose training data for robustness: hardness scores, coresets, robust training and honest evaluation.

>>> import easycoreset
>>> "score" in easycoreset.__all__
True
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easycoreset.attacks.crafting import attack
    from easycoreset.auditing import Audit, audit
    from easycoreset.data import open_source
    from easycoreset.errors import EasycoresetWarning, RunError, UsageError
    from easycoreset.evaluation import Evaluation, evaluate
    from easycoreset.exporting import export
    from easycoreset.exporting.cleaning import clean
    from easycoreset.hardness.exact import input_gradient_norms
    from easycoreset.models.saved import load_model
    from easycoreset.predicting import predict
    from easycoreset.recorder import HardnessRecorder
    from easycoreset.reporting import Report, report
    from easycoreset.scoring import score
    from easycoreset.selection import choose, select
    from easycoreset.tables import Coreset, Scores
    from easycoreset.tables.indexed import with_index
    from easycoreset.training import train
    from easycoreset.training.epoch_sampler import EpochSampler
    from easycoreset.workflow.analyzing import analyze
    from easycoreset.workflow.comparing import Comparison, compare
    from easycoreset.workflow.running import run

_MODULES = {
    "Audit": "auditing",
    "Comparison": "workflow.comparing",
    "Coreset": "tables",
    "EasycoresetWarning": "errors",
    "EpochSampler": "training.epoch_sampler",
    "Evaluation": "evaluation",
    "HardnessRecorder": "recorder",
    "Report": "reporting",
    "RunError": "errors",
    "Scores": "tables",
    "UsageError": "errors",
    "analyze": "workflow.analyzing",
    "attack": "attacks.crafting",
    "audit": "auditing",
    "choose": "selection",
    "clean": "exporting.cleaning",
    "compare": "workflow.comparing",
    "evaluate": "evaluation",
    "export": "exporting",
    "input_gradient_norms": "hardness.exact",
    "load_model": "models.saved",
    "open_source": "data",
    "predict": "predicting",
    "report": "reporting",
    "run": "workflow.running",
    "score": "scoring",
    "select": "selection",
    "train": "training",
    "with_index": "tables.indexed",
}

__all__ = [
    "Audit",
    "Comparison",
    "Coreset",
    "EasycoresetWarning",
    "EpochSampler",
    "Evaluation",
    "HardnessRecorder",
    "Report",
    "RunError",
    "Scores",
    "UsageError",
    "analyze",
    "attack",
    "audit",
    "choose",
    "clean",
    "compare",
    "evaluate",
    "export",
    "input_gradient_norms",
    "load_model",
    "open_source",
    "predict",
    "report",
    "run",
    "score",
    "select",
    "train",
    "with_index",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that the command line starts without torch."""
    if name == "__version__":
        return importlib.metadata.version("easycoreset")
    if name not in _MODULES:
        raise AttributeError(f"module 'easycoreset' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"easycoreset.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, including those that are not imported yet."""
    return [*__all__, "__version__"]
