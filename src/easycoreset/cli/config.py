"""Options from a YAML file: keys are flag names, flags on the command line override them, no value is coerced."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easycoreset.cli.grid_flags import STEP_FLAG
from easycoreset.conversion import convert, option_types
from easycoreset.errors import UsageError, quote, require, suggest_name
from easycoreset.options import OPTIONS
from easycoreset.yaml_files import MAX_BYTES, read_yaml

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
    for key, value in _read_file(file).items():
        name = str(key).replace("-", "_")
        flag = f"--{name.replace('_', '-')}"
        if value is None or value == []:  # treated as absent
            continue
        if command == "compare" and STEP_FLAG.fullmatch(flag):
            added += [] if flag in tokens else [flag, _to_text(value)]
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


def _read_file(file: Path) -> dict[Any, Any]:
    """Read a file of options; an empty file has none."""
    try:
        require(
            file.stat().st_size <= MAX_BYTES, f"config: {file}:", f"at most {MAX_BYTES // 1024} KiB of options", "more"
        )
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config: {file}: not readable: {error}") from None
    return read_yaml(text, f"config: {file}")


def _to_text(value: Any) -> str:
    """Format a value as the value of a flag."""
    if isinstance(value, dict):
        return ";".join(f"{name}={_to_text(item)}" for name, item in value.items())
    return ",".join(map(_to_text, value)) if isinstance(value, tuple | list) else str(value)
