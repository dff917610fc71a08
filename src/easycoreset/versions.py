"""What made a result: versions of packages, the source's commit, and the command line."""

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
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), **source_commit()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def command_line() -> str | None:
    """The command line, where this process is one of ours."""
    ours = Path(sys.argv[0]).name in ("easycoreset", "__main__.py")
    return shlex.join(["easycoreset", *sys.argv[1:]]) if ours else None


@functools.cache
def source_commit() -> dict[str, str]:
    """The commit of the source tree, where this is one and git is there; "-dirty" where it was changed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--match="]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and (Path(__file__).parents[2] / ".git").exists():
            return {"commit": done.stdout.strip()}
    return {}
