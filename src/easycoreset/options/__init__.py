"""Every option, defined once: these dataclasses are the Python API, the flags, the YAML keys and the saved JSON.

A field marked `neutral` changes where or how fast a result is made, never the result: two runs that differ in
neutral fields alone are the same run.
"""

from easycoreset.options.analysing import AnalyzeOptions
from easycoreset.options.choosing import EvaluateOptions, SelectOptions
from easycoreset.options.comparing import CompareOptions, ReportOptions
from easycoreset.options.deciding import AuditOptions, PredictOptions
from easycoreset.options.exporting import ExportOptions
from easycoreset.options.kinds import (
    Device,
    Integer,
    Integers,
    Names,
    Norm,
    Number,
    Numbers,
    Schedule,
    Switch,
    options_json,
    takes,
)
from easycoreset.options.training import READING, ComputeOptions, RecipeOptions, RunOptions, ScoreOptions, TrainOptions
from easycoreset.options.whole import PipelineOptions

__all__ = [
    "READING",
    "AnalyzeOptions",
    "AuditOptions",
    "CompareOptions",
    "ComputeOptions",
    "Device",
    "EvaluateOptions",
    "ExportOptions",
    "Integer",
    "Integers",
    "Names",
    "Norm",
    "Number",
    "Numbers",
    "PipelineOptions",
    "PredictOptions",
    "RecipeOptions",
    "ReportOptions",
    "RunOptions",
    "Schedule",
    "ScoreOptions",
    "SelectOptions",
    "Switch",
    "TrainOptions",
    "options_json",
    "takes",
]
