"""The code of README and of the pages in `docs/`: its blocks, in order, with the language of each."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A block of code: `python` and `bash` are run, the commands of `console` are only checked."""

    language: str
    text: str


def pages() -> list[Path]:
    """README and every page that is written by hand."""
    written = [file for file in (ROOT / "docs").rglob("*.md") if not {"generated", "_build"} & set(file.parts)]
    return [ROOT / "README.md", *sorted(written)]


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell's block, without prompts and comments."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = [line.removeprefix("$ ") for line in joined.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def links(page: Path) -> list[str]:
    """The links of a page to files."""
    return [link for link in LINK.findall(page.read_text()) if "://" not in link]
