"""The layout of `--help`: required options first, the others by what they are of."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

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

Item = TypeVar("Item")
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
        for entry in panel.entries:
            join_lines(entry.description)
        named = [(next(iter(entry.positive_names), ""), entry.required, entry) for entry in panel.entries]
        for title, entries in group_options(named).items():
            super().__call__(console, options, type(panel)(title=title, entries=entries, format=panel.format))


def group_options(options: Iterable[tuple[str, bool, Item]]) -> dict[str, list[Item]]:
    """Options by the title of their panel.

    Args:
        options: the flag of each, whether it is required, and what stands for it.

    >>> group_options([("--lr", False, 1), ("--seed", False, 2), ("--track", False, 3), ("--out", True, 4)])
    {'Options': [4, 3], 'Model and training': [1], 'Machine and output': [2]}
    """
    parts: dict[str, list[Item]] = {title: [] for title in (OTHERS, *PANELS, EVERYWHERE)}
    for flag, required, item in sorted(options, key=lambda option: not option[1]):
        title = OTHERS if required else TITLES.get(flag.removeprefix("--").replace("-", "_"), OTHERS)
        parts[title].append(item)
    return {title: items for title, items in parts.items() if items}


def join_lines(description: Any) -> None:
    """Remove the line breaks of its source from a description."""
    if isinstance(description, InlineText) and isinstance(description.primary_renderable, Text):
        description.primary_renderable = Text(" ".join(description.primary_renderable.plain.split()))
