"""How scores that come with the package agree with those of other scoring runs of the same data.

`python -m benchmarks.published_agreement NAME RESULT.json FOLDER...`: each FOLDER is one that `score` wrote, with
another seed, another network or another objective.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import describe
from easycoreset.files import read_json
from easycoreset.tables import Scores

COLUMNS = ("aign", "loss", "el2n", "aum", "forgetting", "uncertainty")
TOLD = ("model", "objective", "epochs", "seed")


def compare_columns(ours: Scores, theirs: Scores) -> list[dict[str, Any]]:
    """The agreement of each measure with the same measure of the other table."""
    shared = [name for name in COLUMNS if name in ours.columns and name in theirs.columns]
    lines = {(one.column, one.other): one for one in ours.compare(theirs)}
    return [lines[name, name].record() | {"column": name} for name in shared]


def main() -> None:
    """Compare, print and write."""
    name, result, folders = sys.argv[1], Path(sys.argv[2]), [Path(text) for text in sys.argv[3:]]
    published = Scores.published(name)
    runs = {}
    for folder in folders:
        made = read_json(folder / "run.json")
        about = {key: made["options"][key] for key in TOLD}
        runs[json.dumps(about)] = about | {"command": made["command_line"], "commit": made["versions"]["commit"]}
    tables = dict(zip(runs, (Scores.read(folder) for folder in folders), strict=True))
    record = {
        **describe(),
        "command": f"python -m benchmarks.published_agreement {name} {result} FOLDER...",
        "seeds": published.provenance["published"]["seeds"],
        "published": name,
        "with": [about | {"agreement": compare_columns(published, tables[key])} for key, about in runs.items()],
        "between": [
            {"first": json.loads(a), "second": json.loads(b), "agreement": compare_columns(tables[a], tables[b])}
            for a, b in itertools.combinations(runs, 2)
        ],
        "spread_of_seeds": float(np.median(published["aign_std"] / published["aign"])),
    }
    for line in record["with"]:
        print(f"{line['model']}, {line['objective']}, seed {line['seed']}: Spearman, easiest 10%, 30%, 50%")
        for one in line["agreement"]:
            shares = "  ".join(f"{share:.2f}" for share in one["overlap"].values())
            print(f"  {one['column']:12} {one['spearman']:.3f}  {shares}")
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
