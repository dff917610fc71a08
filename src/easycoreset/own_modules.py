"""A user's own modules: `package.module:name`, or `module:name` where the module lies in the working folder.

That is any folder on Python's path but those of installed packages; the command line puts the working folder there.
"""

import ast
import functools
import hashlib
import importlib.util
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

OWN = " (one of your own: package.module:name, or module:name where module.py lies here)"  # for messages
SPELLED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(:.*)?")


def is_own(spec: str) -> bool:
    """Whether a member's spelling begins with a module of the user's.

    >>> is_own("my.module:attack:steps=3"), is_own("pgd:steps=3"), is_own("easiest:loss"), is_own("file:my.txt")
    (True, False, False, False)
    """
    module = spec.partition(":")[0]
    if not SPELLED.fullmatch(spec) or module == "file":
        return False
    return "." in module or any(_holds(folder, module) for folder in (".", *sys.path))


def _holds(folder: str, module: str) -> bool:
    """Whether a module lies in a folder that is not one of installed packages."""
    place = os.path.join(folder, module)
    found = os.path.isfile(f"{place}.py") or os.path.isfile(os.path.join(place, "__init__.py"))
    return found and Path(folder).resolve() not in _installed()


@functools.cache
def _installed() -> set[Path]:
    return {Path(place).resolve() for place in (*site.getsitepackages(), *sysconfig.get_paths().values())}


def code_digest(specs: Iterable[str]) -> str:
    """What tells two versions of users' own code apart: the modules that these members are in, and those of the user's
    that they import, at whatever place; empty where no member is a user's own.

    What is imported by a computed name, and files that are no Python, are not seen.
    """
    waiting = sorted({spec.partition(":")[0] for spec in specs if is_own(spec)})
    if not waiting:
        return ""
    roots = {root for module in waiting if (root := _root_of(module)) is not None}
    packages = {module.partition(".")[0] for module in waiting}
    seen: dict[str, bytes] = {}
    while waiting:
        module = waiting.pop()
        file = _file_of(module)
        if file is None or str(file) in seen or not _is_users(module, file, roots, packages):
            continue
        seen[str(file)] = content = file.read_bytes()
        waiting += _imports(content, module, file.name == "__init__.py")
    parts = sorted(hashlib.sha256(content).hexdigest() for content in seen.values())
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _root_of(module: str) -> Path | None:
    """The folder that holds a module or its package; None where that is one of installed packages."""
    file = _file_of(module.partition(".")[0])
    if file is None:
        return None
    root = file.parent.parent if file.name == "__init__.py" else file.parent
    return None if root in _installed() else root


def _is_users(module: str, file: Path, roots: set[Path], packages: set[str]) -> bool:
    return module.partition(".")[0] in packages or any(root in file.parents for root in roots)


def _file_of(module: str) -> Path | None:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # its package is broken, or none
        return None
    if found is None or found.origin is None or not os.path.isfile(found.origin) or not found.origin.endswith(".py"):
        place = next(iter(found.submodule_search_locations or ()), None) if found is not None else None
        return Path(place, "__init__.py").resolve() if place and Path(place, "__init__.py").is_file() else None
    return Path(found.origin).resolve()


def _imports(content: bytes, module: str, is_package: bool) -> Iterator[str]:
    """The modules that a source names in its imports; names that may be modules too."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: count + 1]) for count in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            if base:
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
