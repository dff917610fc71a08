"""Writes the Python of README, of the manual and of the example notebooks into modules, which the type checker reads.

python -m tests.support.documented_code FOLDER
"""

import json
import sys
from pathlib import Path

from tests.support.documentation import ROOT, blocks, pages

UNTYPED = "# pyright: reportAttributeAccessIssue=false"  # scikit-learn's data sets
SHOWN = "# pyright: reportUnusedExpression=false"  # the last line of a cell is what it shows


def main(folder: Path) -> None:
    """Write a module for each page with Python, and for each notebook."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    for page in pages():
        if code := [block.text for block in blocks(page) if block.language == "python"]:
            (folder / f"{page.stem.replace('-', '_').lower()}.py").write_text("\n\n".join([UNTYPED, *code]))
    for file in sorted((ROOT / "examples").glob("*.ipynb")):
        cells = json.loads(file.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        (folder / f"{file.stem}.py").write_text("\n\n".join([SHOWN, *code]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
