"""A user's own modules: `package.module:name`, or `module:name` if the module is in the working folder.

A module may be in any folder on Python's path, except those of installed packages; the command line adds the working
folder.
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

# the end of messages about an unknown member
USER_MODULE_HINT = " (from your code: package.module:name, or module:name if module.py is in this folder)"
THIS_PACKAGE = Path(__file__).parent.resolve()
SPEC_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(:.*)?")


def is_user_spec(spec: str) -> bool:
    """Whether a member's spelling begins with a user's module.

    >>> is_user_spec("my.module:attack:steps=3"), is_user_spec("pgd:steps=3"), is_user_spec("file:my.txt")
    (True, False, False)
    """
    module = spec.partition(":")[0]
    if not SPEC_PATTERN.fullmatch(spec) or module == "file":
        return False
    return "." in module or any(_has_module(folder, module) for folder in (".", *sys.path))


def _has_module(folder: str, module: str) -> bool:
    """Whether a folder has a module and is not a folder of installed packages."""
    path = os.path.join(folder, module)
    exists = os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))
    return exists and Path(folder).resolve() not in _installed_folders()


@functools.cache
def _installed_folders() -> set[Path]:
    return {Path(folder).resolve() for folder in (*site.getsitepackages(), *sysconfig.get_paths().values())}


@functools.cache
def _package_folders() -> set[Path]:
    """Folders below which everything is installed."""
    paths = sysconfig.get_paths()
    folders = (*site.getsitepackages(), *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")))
    return {Path(folder).resolve() for folder in folders}


def code_digest(specs: Iterable[str]) -> str:
    """Hash the user's code: the modules of the members `specs` and the user's modules that they import.

    The hash is empty if no member is in a user's module. Imports by a computed name, installed packages and files other
    than Python are not included.
    """
    pending = sorted({spec.partition(":")[0] for spec in specs if is_user_spec(spec)})
    if not pending:
        return ""
    roots = {root for module in pending if (root := _root_of(module)) is not None}
    packages = {module.partition(".")[0] for module in pending}
    seen: dict[str, bytes] = {}
    while pending:
        module = pending.pop()
        file = _file_of(module)
        if file is None or str(file) in seen or not _is_users_module(module, file, roots, packages):
            continue
        seen[str(file)] = source = file.read_bytes()
        pending += _imports(source, module, file.name == "__init__.py")
    digests = sorted(hashlib.sha256(source).hexdigest() for source in seen.values())
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _root_of(module: str) -> Path | None:
    """The folder that contains a module or its top package; None for a folder of installed packages."""
    file = _file_of(module.partition(".")[0])
    if file is None:
        return None
    root = file.parent.parent if file.name == "__init__.py" else file.parent
    return None if root in _installed_folders() else root


def _is_users_module(module: str, file: Path, roots: set[Path], packages: set[str]) -> bool:
    is_installed = any(folder in file.parents for folder in (*_package_folders(), THIS_PACKAGE))  # also .venv in a root
    return module.partition(".")[0] in packages or (any(root in file.parents for root in roots) and not is_installed)


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # the parent package is imported, which may fail in any way, or is not a package
        return None
    if spec is None or spec.origin is None or not os.path.isfile(spec.origin) or not spec.origin.endswith(".py"):
        folder = next(iter(spec.submodule_search_locations or ()), None) if spec is not None else None
        return Path(folder, "__init__.py").resolve() if folder and Path(folder, "__init__.py").is_file() else None
    return Path(spec.origin).resolve()


def _imports(source: bytes, module: str, is_package: bool) -> Iterator[str]:
    """The modules that a source imports, and the imported names, which may be modules too."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: count + 1]) for count in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            parent_packages = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent_packages, *filter(None, [node.module])])
            if base:
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
