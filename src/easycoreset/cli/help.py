"""The layout of `--help`: required options first, the others by what they are of."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from cyclopts.help import DefaultFormatter, InlineText
from rich.text import Text

from easycoreset.options.groups import (
    AttackOptions,
    CommandOptions,
    ComputeOptions,
    FractionOptions,
    InferenceOptions,
    MachineOptions,
    ModelOptions,
    NormalisationOptions,
    NormOptions,
    ReadingOptions,
    RunnerOptions,
    ScoringOptions,
    SeedOptions,
    SelectionOptions,
    TrainingOptions,
    ValidationOptions,
)

OTHERS = "Options"  # the title of what the command alone has
EVERYWHERE = "Options of all commands"
PANELS: dict[str, Sequence[type[Any]]] = {
    "Model and training": (ModelOptions, TrainingOptions, ValidationOptions),
    "Scoring": (ScoringOptions,),
    "Selection": (SelectionOptions, FractionOptions),
    "Attack": (AttackOptions, NormOptions),
    "Reading the data": (ReadingOptions, NormalisationOptions),
    "Machine and output": (
        MachineOptions,
        ComputeOptions,
        InferenceOptions,
        RunnerOptions,
        CommandOptions,
        SeedOptions,
    ),
}
TITLES = {item.name: title for title, groups in reversed(PANELS.items()) for kind in groups for item in fields(kind)}
TITLES["data"] = OTHERS
TITLES |= dict.fromkeys(("config", "json", "quiet", "debug", "list", "show_recipe", "help", "version"), EVERYWHERE)


class HelpFormatter(DefaultFormatter):
    """Renders a command's options in several panels, without the line breaks of their docstrings."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """Render a panel of commands as it is, and one of options in several."""
        if panel.format != "parameter":
            super().__call__(console, options, panel)
            return
        parts: dict[str, list[Any]] = {title: [] for title in (OTHERS, *PANELS, EVERYWHERE)}
        for entry in panel.entries:
            name = next(iter(entry.positive_names), "").removeprefix("--").replace("-", "_")
            title = OTHERS if entry.required else TITLES.get(name, OTHERS)
            join_lines(entry.description)
            parts[title].append(entry)
        parts[OTHERS].sort(key=lambda entry: not entry.required)
        for title, entries in parts.items():
            if entries:
                super().__call__(console, options, type(panel)(title=title, entries=entries, format=panel.format))


def join_lines(description: Any) -> None:
    """Remove the line breaks of its source from a description."""
    if isinstance(description, InlineText) and isinstance(description.primary_renderable, Text):
        description.primary_renderable = Text(" ".join(description.primary_renderable.plain.split()))
