"""Options from a YAML file: keys are flag names, a flag on the command line beats the file, no value is coerced."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from easycoreset.conversion import convert, option_types
from easycoreset.errors import UsageError, nearest, quote, shorten
from easycoreset.options import OPTIONS

LARGEST = 2**16  # bytes of a file of options
GLOBAL = {"json": bool, "quiet": bool, "debug": bool}
DEMO = {"out": Path, "workers": int, "overwrite": bool}


def with_config(tokens: Sequence[str], file: Path) -> list[str]:
    """Add the file's options to the command line, except those that it gives itself.

    Raises:
        UsageError: no readable YAML mapping, an unknown key, or a value of another type.
    """
    command = next((token for token in tokens if not token.startswith("-")), "")
    known = types_of(command)
    added: list[str] = []
    for key, value in read_yaml(file).items():
        name = str(key).replace("-", "_")
        flag = f"--{name.replace('_', '-')}"
        if value is None or value == []:  # as if it were not there
            continue
        if name not in known:
            raise UsageError(
                f"{file}: unknown option {quote(key)} of {command or 'no command'}: {nearest(name, known)}"
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


def types_of(command: str) -> dict[str, Any]:
    """The options of a command, name -> type."""
    if command == "demo":
        return DEMO | GLOBAL
    return GLOBAL | (option_types(OPTIONS[command]) if command in OPTIONS else {})


def read_yaml(file: Path) -> dict[Any, Any]:
    """Read a mapping; an empty file is an empty one."""
    try:
        if file.stat().st_size > LARGEST:
            raise UsageError(f"config: {file}: must be at most {LARGEST // 1024} KiB of options")
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config: {file}: not readable: {error}") from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are not read: a few of them stand for more than there is room for")
        value = yaml.load(text, Loader=_EachKeyOnce)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"config: {file}: not YAML: {shorten(' '.join(str(error).split()))}") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"config: {file}: not YAML of options: it is nested too deeply") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"config: {file}: must hold options as `name: value`; got {type(value).__name__}")
    return value


class _EachKeyOnce(yaml.SafeLoader):
    """YAML lets the last of two equal keys win; a mistake should not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[Any]()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str | int | float | bool | None):
                raise yaml.YAMLError(f"a name of an option must be text; got {quote(name)}")
            if name in seen:
                raise yaml.YAMLError(f"{quote(name)} is given twice")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _to_text(value: Any) -> str:
    """Spell a value as a flag's."""
    return ",".join(map(_to_text, value)) if isinstance(value, tuple) else str(value)
