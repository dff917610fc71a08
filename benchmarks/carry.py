"""Plans carried from machine to machine: what tables and pages need of the finished steps, without weights and scores.

`python -m benchmarks.carry pack PLAN FOLDER` copies it; `python -m benchmarks.carry unpack FOLDER PLAN` makes a plan's
folder of it, in which `compare` goes on: finished steps stay done, and what a missing step needs of another
(a coreset, scores) is computed again.
"""

import json
import shutil
import sys
from pathlib import Path

from easycoreset.errors import require
from easycoreset.file_lists import STEP_MARK, FileList
from easycoreset.files import write_json
from easycoreset.paths import sha256_of_file
from easycoreset.plan_folders import PLAN_RECORD, RESULTS, STEP_RECORD, STEPS_FOLDER
from easycoreset.records import read_record
from easycoreset.workflow.steps import KINDS

CARRIED = (
    *("run.json", "evaluation.json", "history.jsonl", STEP_RECORD),
    *("predictions.parquet", "corruptions.parquet", "certificates.parquet"),
)
LONGEST = 2**20  # bytes of a carried file


def pack(plan: Path, folder: Path, data: str = "") -> int:
    """Copy a plan without what is large; returns the number of its finished steps.

    Args:
        plan: the plan's folder.
        folder: where to; steps that lie there already are left as they are.
        data: where the data lie on this machine, which records keep; it is shortened to `runs/data`.
    """
    finished = sorted(path.parent for path in (plan / STEPS_FOLDER).glob(f"*/{STEP_RECORD}"))
    new = [step for step in finished if not (folder / STEPS_FOLDER / step.name / STEP_RECORD).exists()]
    files = [step / name for step in new for name in CARRIED if (step / name).exists()]
    files += [plan / name for name in (PLAN_RECORD, RESULTS) if (plan / name).exists()]
    for file in files:
        require(file.stat().st_size < LONGEST, "plan", f"files below {LONGEST} bytes", str(file))
        target = folder / file.relative_to(plan)
        target.parent.mkdir(parents=True, exist_ok=True)
        if data and file.suffix == ".json":
            target.write_text(file.read_text().replace(data, "runs/data"))
        else:
            shutil.copyfile(file, target)
    return len(finished)


def unpack(folder: Path, plan: Path) -> int:
    """Make a plan's folder of a packed one; returns the number of its finished steps."""
    steps = sorted(path.parent for path in (folder / STEPS_FOLDER).glob(f"*/{STEP_RECORD}"))
    shutil.copytree(folder, plan, ignore=shutil.ignore_patterns(RESULTS))
    list_files(plan, PLAN_RECORD)
    for step in (plan / STEPS_FOLDER / step.name for step in steps):
        kind = KINDS[step.name.partition("-")[0]]
        sizes = {path.name: path.stat().st_size for path in step.iterdir() if path.name != STEP_RECORD}
        write_json(step / STEP_RECORD, read_record(step / STEP_RECORD) | {"files": sizes})
        list_files(step, kind.record)
        FileList(plan, PLAN_RECORD).add(step, f"{STEP_MARK}{kind.record}")
    return len(steps)


def list_files(folder: Path, record: str) -> None:
    """List the files of a folder as those of a record's command."""
    file_list = FileList(folder, record)
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        file_list.add(path, sha256_of_file(path))


if __name__ == "__main__":
    verb, source, target, *rest = sys.argv[1:]
    carry = {"pack": pack, "unpack": unpack}[verb]
    print(json.dumps({"steps": carry(Path(source), Path(target), *rest)}))
