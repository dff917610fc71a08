"""Writes the pages of the reference that are made from the code: commands, members, recipes, the changelog."""

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import easycoreset
from easycoreset.attacks import ATTACKS, MARGINS
from easycoreset.cli import commands
from easycoreset.cli.flags import show_default
from easycoreset.cli.help import group_options
from easycoreset.cli.places import PLACES
from easycoreset.conversion import option_types
from easycoreset.corruptions import CORRUPTIONS
from easycoreset.dynamic import DYNAMIC_METHODS
from easycoreset.hardness import HARDNESS
from easycoreset.members import Table, describe_members, find_member
from easycoreset.objectives import OBJECTIVES
from easycoreset.options import OPTIONS
from easycoreset.options.fields import describe_fields
from easycoreset.selection import SELECTORS
from easycoreset.workflow.recipes import describe_recipes, recipe_text

ROOT = Path(__file__).parents[2]
REQUIRED = "required"
TABLES: dict[str, tuple[str, str, Table]] = {
    "methods": ("Coreset methods", "method", SELECTORS),
    "dynamic-methods": ("Dynamic methods", "dynamic method", DYNAMIC_METHODS),
    "hardness": ("Hardness measures", "hardness", HARDNESS),
    "objectives": ("Training objectives", "objective", OBJECTIVES),
    "attacks": ("Attacks", "attack", ATTACKS),
    "margins": ("Distances to the boundary", "margins", MARGINS),
    "corruptions": ("Corruptions", "corruption", CORRUPTIONS),
}
INTRODUCTIONS = {
    "methods": "A method is spelled `NAME[:key=value]...` in `select --method`, in `compare --methods` and in Python.",
    "dynamic-methods": "They choose the samples of each epoch before it begins: `train --method NAME --fraction F`.",
    "hardness": "Higher is harder in every column. `score --hardness` names those that are not free.",
    "objectives": "What a training step minimises: `train --objective NAME[:key=value]...`.",
    "attacks": "`evaluate --attack NAME[:key=value]...`; eps and norm are options of the evaluation.",
    "margins": "`evaluate --margins NAME`: upper bounds of each sample's distance to the decision boundary.",
    "corruptions": "`evaluate --corruptions NAME[:severity=1..5]`, or `all`.",
}


def write_pages(folder: Path) -> None:
    """Write all generated pages; a page that has not changed is left alone."""
    pages = {f"commands/{name}.md": _command(name) for name in OPTIONS}
    pages |= {f"{name}.md": _members(name) for name in TABLES}
    pages["recipes.md"] = _recipes()
    pages["python.md"] = _python()
    pages["changelog.md"] = ":nosearch:\n\n" + (ROOT / "CHANGELOG.md").read_text()
    pages["commands/index.md"] = _command_index()
    for name, text in pages.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _command(name: str) -> str:
    """A command's page: its options as `--help` shows them."""
    options = OPTIONS[name]
    hints, meanings = option_types(options), describe_fields(options)
    entries: list[tuple[str, bool, str]] = []
    for item in dataclasses.fields(options):
        flag, default = f"--{item.name.replace('_', '-')}", _default(item)
        is_required = default == REQUIRED
        default = f"default `runs/{PLACES[name]}DATA`" if item.name == "out" and name in PLACES else default
        facts = ", ".join(part for part in (f"*{_type_name(hints[item.name])}*", default) if part)
        entries.append((flag, is_required, f"`{flag}` {facts}\n: {_one_line(meanings[item.name])}\n"))
    summary = (inspect.getdoc(getattr(commands, name)) or "").split("Args:")[0].strip()
    python = f"In Python: {{py:func}}`easycoreset.{name}`, with the same names and `_` for `-`."
    panels = [f"## {title}\n\n" + "\n".join(texts) for title, texts in group_options(entries).items()]
    return f"# easycoreset {name}\n\n{_escape(summary)}\n\n{python}\n\n" + "\n".join(panels)


def _default(item: "dataclasses.Field[Any]") -> str:
    if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
        return REQUIRED
    shown = show_default(item.default)
    return f"default `{shown}`" if shown else ""


def _type_name(hint: Any) -> str:
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(hint).removeprefix("<class '").removesuffix("'>"))
    text = re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace("'", "").replace(", ", " or "), text)
    text = re.sub(r"Sequence\[(\w+)\]", r"\1, ...", text)
    return text.replace("|", "or").replace("NoneType", "None")


def _command_index() -> str:
    rows = [
        [f"[{name}]({name}.md)", (inspect.getdoc(getattr(commands, name)) or "").split("\n")[0]] for name in OPTIONS
    ]
    entries = "\n".join(OPTIONS)
    common = "Every command also takes `--config FILE.yaml`, `--json`, `--quiet` and `--debug`, many `--list`."
    toctree = f"```{{toctree}}\n:hidden:\n\n{entries}\n```"
    return f"# Commands\n\n{common}\n\n{_table(['command', 'does'], rows)}\n{toctree}\n"


def _members(name: str) -> str:
    """A table of members: what each is, its options, and what it needs and costs."""
    title, kind, table = TABLES[name]
    records = describe_members(kind, table)
    rows: list[list[str]] = []
    for record in records:
        facts = [f"{key}: {_escape(str(record[key]))}" for key in ("options", "needs", "cost") if record.get(key)]
        definition = _definition(kind, str(record["name"]), table)
        rows.append([f"`{record['name']}`", "<br>".join([_escape(definition or str(record["is"])), *facts])])
    return f"# {title}\n\n{INTRODUCTIONS[name]}\n\n{_table(['name', 'is'], rows)}"


def _definition(kind: str, name: str, table: Table) -> str:
    """A member's docstring up to its options: definition, paper, direction and departures."""
    member = find_member(kind, name, table)
    if not inspect.isclass(member) and not inspect.isfunction(member):
        return ""  # an object of a common class
    text = inspect.getdoc(member) or ""
    return _one_line(re.split(r"^(?:Args|Attributes|Returns|Raises):|^>>>", text, flags=re.MULTILINE)[0])


def _recipes() -> str:
    parts = [
        "# Recipes\n",
        "`easycoreset compare --recipe NAME` runs one; `--show-recipe NAME` prints it, as a start for your own.\n",
    ]
    for record in describe_recipes():
        parts.append(f"## {record['name']}\n\n{record['is']}\n\n```yaml\n{recipe_text(str(record['name']))}```\n")
    return "\n".join(parts)


def _python() -> str:
    parts = ["# Python\n", "```{eval-rst}\n.. py:module:: easycoreset\n```\n"]
    for name in sorted(easycoreset.__all__, key=str.lower):
        thing = getattr(easycoreset, name)
        directive = "autoexception" if _is_error(thing) else "autoclass" if inspect.isclass(thing) else "autofunction"
        members = "   :members:\n" if directive == "autoclass" else ""
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. {directive}:: easycoreset.{name}\n{members}```\n")
    return "\n".join(parts)


def _is_error(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(columns), ["---"] * len(list(columns)), *map(list, rows)]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, but for its code."""
    return re.sub(r"([*_<\[])(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\1", text)


def _as_code(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Spellings such as file:PATH, which reStructuredText would take for addresses, become code."""
    lines[:] = [re.sub(r"(?<!`)\bfile:PATH\b", "``file:PATH``", line) for line in lines]


def setup(app: Any) -> Mapping[str, Any]:
    """Write the pages when a build begins."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _as_code)
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "generated"))
    return {"version": "1", "parallel_read_safe": True}
