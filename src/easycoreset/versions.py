"""The versions of packages, the commit of the source and the command line, for records."""

import contextlib
import functools
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("easycoreset", "torch", "torchvision", "numpy", "pyarrow", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python, of the source and of the packages that results depend on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **source_commit(),
        **package_versions(),
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def command_line() -> str | None:
    """The command line of this process, if it is easycoreset's; else None."""
    is_easycoreset = Path(sys.argv[0]).name in ("easycoreset", "__main__.py")
    return shlex.join(["easycoreset", *sys.argv[1:]]) if is_easycoreset else None


@functools.cache
def source_commit() -> dict[str, str]:
    """The commit of the source tree, with "-dirty" if it has changes; empty without a source tree or git."""
    git_command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--match="]
    with contextlib.suppress(OSError):
        process = subprocess.run(git_command, capture_output=True, text=True)
        if process.returncode == 0 and (Path(__file__).parents[2] / ".git").exists():
            return {"commit": process.stdout.strip()}
    return {}
