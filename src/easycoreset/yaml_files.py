"""YAML of options: one mapping, without aliases, repeated keys or objects."""

from typing import Any

import yaml

from easycoreset.errors import UsageError, quote, shorten

MAX_BYTES = 2**16


def read_yaml(text: str, name: str) -> dict[Any, Any]:
    """Read a YAML mapping; an empty text is an empty mapping.

    Args:
        text: the YAML.
        name: what it is, for messages.

    Raises:
        UsageError: it is no YAML mapping, or too large.
    """
    if len(text) > MAX_BYTES:
        raise UsageError(f"{name}: must be at most {MAX_BYTES // 1024} KiB of options")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are refused, because they can expand beyond the memory")
        value = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{name}: not YAML: {shorten(' '.join(str(error).split()))}") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{name}: not YAML of options: nested too deeply") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{name}: must hold options as `name: value`; got {type(value).__name__}")
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
