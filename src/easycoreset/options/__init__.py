"""All options, each defined once: these dataclasses are the Python API, the flags, the YAML keys and the saved JSON.

A command's options are composed of groups. A field marked `neutral` changes where or how fast a result is made, but
not the result: two runs that differ only in neutral fields are the same run.
"""

from easycoreset.options.analyzing import AnalyzeOptions
from easycoreset.options.auditing import AuditOptions
from easycoreset.options.choosing import CarryOptions, ChooseOptions, MeasureOptions
from easycoreset.options.cleaning import CleanOptions
from easycoreset.options.comparing import CompareOptions
from easycoreset.options.evaluating import EvaluateOptions
from easycoreset.options.exporting import ExportOptions
from easycoreset.options.fields import Device, Norm, accept_options, defaults_json, field_names, options_json, values_of
from easycoreset.options.groups import (
    READING_FIELDS,
    AttackOptions,
    ComputeOptions,
    ModelOptions,
    NormOptions,
    ReadingOptions,
    RunnerOptions,
    Schedule,
    ScoringOptions,
    TrainingOptions,
    ValidationOptions,
    resolve_optimizer,
    scored_epochs,
)
from easycoreset.options.predicting import PredictOptions
from easycoreset.options.reporting import ReportOptions
from easycoreset.options.running import PipelineOptions
from easycoreset.options.scoring import ScoreOptions
from easycoreset.options.selecting import SelectOptions
from easycoreset.options.training import RecipeOptions, TrainOptions

OPTIONS = {  # by command
    "analyze": AnalyzeOptions,
    "audit": AuditOptions,
    "clean": CleanOptions,
    "compare": CompareOptions,
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "predict": PredictOptions,
    "report": ReportOptions,
    "run": PipelineOptions,
    "score": ScoreOptions,
    "select": SelectOptions,
    "train": TrainOptions,
}

__all__ = [
    "OPTIONS",
    "READING_FIELDS",
    "AnalyzeOptions",
    "AttackOptions",
    "AuditOptions",
    "CarryOptions",
    "ChooseOptions",
    "CleanOptions",
    "CompareOptions",
    "ComputeOptions",
    "Device",
    "EvaluateOptions",
    "ExportOptions",
    "MeasureOptions",
    "ModelOptions",
    "Norm",
    "NormOptions",
    "PipelineOptions",
    "PredictOptions",
    "ReadingOptions",
    "RecipeOptions",
    "ReportOptions",
    "RunnerOptions",
    "Schedule",
    "ScoreOptions",
    "ScoringOptions",
    "SelectOptions",
    "TrainOptions",
    "TrainingOptions",
    "ValidationOptions",
    "accept_options",
    "defaults_json",
    "field_names",
    "options_json",
    "resolve_optimizer",
    "scored_epochs",
    "values_of",
]
