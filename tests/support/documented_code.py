"""Writes the Python of README and of the example notebooks into modules, which the type checker reads.

python -m tests.support.documented_code FOLDER
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOREIGN = """
from typing import Any

import datasets
from torch.utils.data import DataLoader


def theirs() -> Any: ...


OUT = "exported"
epochs = 3
criterion, dataset, labels, optimizer, rows = theirs(), theirs(), theirs(), theirs(), theirs()
"""  # what the snippets of README take for granted

SHOWN = "# pyright: reportUnusedExpression=false"  # the last line of a cell is what it shows


def main(folder: Path) -> None:
    """Write a module for README, and one for each notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (folder / "readme.py").write_text("\n".join([FOREIGN, *snippets]))
    for file in sorted((ROOT / "examples").glob("*.ipynb")):
        cells = json.loads(file.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        (folder / f"{file.stem}.py").write_text("\n\n".join([SHOWN, *code]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
