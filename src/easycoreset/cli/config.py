"""Options from a YAML file: keys are flag names, flags on the command line override them, no value is coerced."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from easycoreset.conversion import convert, option_types
from easycoreset.errors import UsageError, quote, shorten, suggest_name
from easycoreset.options import OPTIONS

MAX_FILE_BYTES = 2**16
GLOBAL = {"json": bool, "quiet": bool, "debug": bool}
DEMO = {"out": Path, "workers": int, "overwrite": bool}


def add_config_options(tokens: Sequence[str], file: Path) -> list[str]:
    """Add the file's options to the command line, except those that are given there.

    Raises:
        UsageError: the file is no readable YAML mapping, or it has an unknown key or a value of another type.
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    known = option_types_of(command)
    added: list[str] = []
    for key, value in read_yaml(file).items():
        name = str(key).replace("-", "_")
        flag = f"--{name.replace('_', '-')}"
        if value is None or value == []:  # treated as absent
            continue
        if name not in known:
            raise UsageError(
                f"{file}: unknown option {quote(key)} of {command or 'no command'}: {suggest_name(name, known)}"
            )
        value = convert(f"{file}: {key}", value, known[name])
        negative = f"--no-{flag[2:]}"
        if any(token.split("=")[0].replace("_", "-") in (flag, negative) for token in tokens):
            continue
        if isinstance(value, bool):
            added += [flag] if value else [] if name in GLOBAL else [negative]
        else:
            added += [flag, _to_text(value)]
    return [*tokens, *added]


def option_types_of(command: str) -> dict[str, Any]:
    """The options of a command as a map from name to type."""
    if command == "demo":
        return DEMO | GLOBAL
    return GLOBAL | (option_types(OPTIONS[command]) if command in OPTIONS else {})


def read_yaml(file: Path) -> dict[Any, Any]:
    """Read a YAML mapping; an empty file is an empty mapping."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"config: {file}: must be at most {MAX_FILE_BYTES // 1024} KiB of options")
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config: {file}: not readable: {error}") from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are refused, because they can expand beyond the memory")
        value = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"config: {file}: not YAML: {shorten(' '.join(str(error).split()))}") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"config: {file}: not YAML of options: nested too deeply") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"config: {file}: must hold options as `name: value`; got {type(value).__name__}")
    return value


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses duplicate keys, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[Any]()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str | int | float | bool | None):
                raise yaml.YAMLError(f"an option's name must be text; got {quote(name)}")
            if name in seen:
                raise yaml.YAMLError(f"{quote(name)} is given twice")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _to_text(value: Any) -> str:
    """Format a value as the value of a flag."""
    return ",".join(map(_to_text, value)) if isinstance(value, tuple) else str(value)
