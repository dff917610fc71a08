"""A grid in pieces, on machines that are lent for minutes and come bare; `piece.sh` runs one piece there.

`gather FOLDER` here: what the machine lacks: pure Python packages, and with `--data SHEETS --part N` half of CIFAR-10.
`run` there, by `piece.sh`: goes on with the grid and packs what it finished, without weights, into one file.
`take FILE FOLDER` here: adds that to the finished steps in FOLDER, which the next `gather --finished FOLDER` adds.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

from benchmarks.carry import pack, unpack
from easycoreset.plan_folders import PLAN_RECORD, RESULTS, STEP_RECORD, STEPS_FOLDER

LACKING = ("cyclopts", "docstring-parser", "rich-rst", "pyautoattack")  # distributions; the others are often there
PARTS = {1: ("data_batch_1", "data_batch_2", "data_batch_3"), 2: ("data_batch_4", "data_batch_5", "test_batch")}
TRAVELS = 64 * 2**20  # bytes at most in one call
FINISHED = "finished"
PACKED = "steps.tar.gz"


def gather(folder: Path, finished: Path | None, sheets: Path | None, part: int) -> int:
    """Fill `folder` with what travels in one call; returns its bytes."""
    shutil.rmtree(folder, ignore_errors=True)  # made by the last call
    for name in LACKING:
        for file in metadata.files(name) or ():
            source = Path(str(file.locate()))
            if source.suffix in (".py", ".typed", "") or ".dist-info" in str(file):
                target = folder / "site" / str(file)
                if ".." not in file.parts and source.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
    if sheets is not None:
        for source in sorted(path for path in sheets.rglob("*") if path.is_file()):
            is_sheet = source.parent.name == "sheets"
            if not is_sheet or source.name.startswith(PARTS[part]):
                target = folder / "sheets" / source.relative_to(sheets)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    if finished is not None and finished.exists():
        shutil.copytree(finished, folder / FINISHED)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > TRAVELS:
        sys.exit(f"{folder} holds {size / 2**20:.0f} MiB; {TRAVELS / 2**20:.0f} MiB travel in one call")
    return size


def run_piece(home: Path, out: Path, minutes: float, data: str, flags: list[str]) -> int:
    """Go on with a grid for some minutes, and pack what is finished since; returns the exit code of `compare`."""
    plan, finished = home / "plan", home / FINISHED
    if not plan.exists() and (finished / PLAN_RECORD).exists():
        unpack(finished, plan)
    line = [sys.executable, "-m", "easycoreset", "compare", *flags, "--data", data, "--minutes", str(minutes)]
    code = subprocess.run([*line, "--out", str(plan)]).returncode
    if not (plan / PLAN_RECORD).exists():
        return code
    with tempfile.TemporaryDirectory() as new:
        pack(plan, Path(new), data.partition(":")[2])
        known = finished / STEPS_FOLDER
        for step in (Path(new) / STEPS_FOLDER).glob("*"):
            if (known / step.name / STEP_RECORD).exists():
                shutil.rmtree(step)  # of the copy
        out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(out / PACKED, "w:gz") as archive:
            for path in sorted(path for path in Path(new).rglob("*") if path.is_file()):
                archive.add(path, path.relative_to(new).as_posix())
    return code


def take(file: Path, folder: Path) -> int:
    """Add the steps of a piece to those in `folder`, and replace its plan and table; returns the number of new ones."""
    before = {path.parent.name for path in folder.glob(f"{STEPS_FOLDER}/*/{STEP_RECORD}")}
    with tempfile.TemporaryDirectory() as new, tarfile.open(file) as archive:
        archive.extractall(new, filter="data")
        for step in sorted((Path(new) / STEPS_FOLDER).glob("*")):
            if step.name not in before:
                shutil.copytree(step, folder / STEPS_FOLDER / step.name)
        for name in (PLAN_RECORD, RESULTS):
            if (Path(new) / name).exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(new) / name, folder / name)
    return len({path.parent.name for path in folder.glob(f"{STEPS_FOLDER}/*/{STEP_RECORD}")} - before)


def main() -> int:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("gather")
    one.add_argument("folder", type=Path)
    one.add_argument("--finished", type=Path)
    one.add_argument("--data", type=Path, help="a folder with unpack.py and a data set's sheets")
    one.add_argument("--part", type=int, choices=PARTS, default=1)
    two = verbs.add_parser("run")
    for name in ("home", "out"):
        two.add_argument(name, type=Path)
    two.add_argument("minutes", type=float)
    two.add_argument("data")
    three = verbs.add_parser("take")
    for name in ("file", "folder"):
        three.add_argument(name, type=Path)
    given, flags = parser.parse_known_args()
    if flags and given.verb != "run":
        parser.error(f"unknown: {' '.join(flags)}")
    if given.verb == "run":
        return run_piece(given.home, given.out, given.minutes, given.data, flags)
    if given.verb == "gather":
        print(f"{gather(given.folder, given.finished, given.data, given.part) / 2**20:.1f} MiB in {given.folder}")
    else:
        print(f"{take(given.file, given.folder)} new steps in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
