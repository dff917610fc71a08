"""Scores that ship with the package, from finished scoring runs of several seeds.

`python -m benchmarks.publish_scores NAME FOLDER...`: each FOLDER is one that `score` wrote, with another seed; NAME the
data set. Writes `src/easycoreset/published/NAME.parquet`: means over the seeds (counts of events are summed), and
`aign_std`, the standard deviation of AIGN over them.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from easycoreset.files import read_json
from easycoreset.tables import Scores
from easycoreset.tables.published_scores import FOLDER

COLUMNS = ("aign", "loss", "el2n", "aum", "forgetting", "uncertainty")
PRECISE = ("aign", "loss")  # whose ranks need float32
LICENCE = "MIT; scores alone, no pictures: the data set has a licence of its own"
SAME = ("model", "epochs", "batch_size", "lr", "schedule", "augment", "objective", "optimizer", "weight_decay", "mode")


def describe_runs(records: list[dict[str, Any]]) -> dict[str, Any]:
    """How the scores were made; refuses runs that differ in more than their seed."""
    options = [record["options"] for record in records]
    for name in SAME:
        values = {str(one[name]) for one in options}
        if len(values) > 1:
            raise SystemExit(f"the runs differ in {name}: {', '.join(sorted(values))}")
    seeds = [one["seed"] for one in options]
    if len(set(seeds)) < len(seeds):
        raise SystemExit(f"seeds must differ; got {seeds}")
    commits = sorted({record["versions"]["commit"] for record in records})
    if dirty := [commit for commit in commits if not commit or "dirty" in commit]:
        raise SystemExit(f"made by changed code: {', '.join(dirty)}")
    return {
        "published": {
            "seeds": seeds,
            "commands": [record["command_line"] for record in records],
            "commits": commits,
            "versions": records[0]["versions"],
            "licence": LICENCE,
        },
        **{name: options[0][name] for name in SAME},
    }


def publish(name: str, folders: list[Path]) -> Path:
    """Merge the runs' scores and write them small."""
    tables = [Scores.read(folder) for folder in folders]
    merged = Scores.merge(tables)
    columns = {column: merged[column] for column in COLUMNS}
    spread = np.std([table["aign"] for table in tables], axis=0, ddof=1)
    columns = {"aign": columns.pop("aign"), "aign_std": spread.astype(np.float32), **columns}
    made = describe_runs([read_json(folder / "run.json") for folder in folders])
    provenance = {key: value for key, value in merged.provenance.items() if key != "merged"} | made | {"data": name}
    table = replace(merged, columns=columns, provenance=provenance).to_table()
    for column in columns:
        if column not in PRECISE:
            place = table.column_names.index(column)
            table = table.set_column(place, column, [table[column].to_numpy().astype(np.float16)])
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.parquet"
    encodings = {
        "index": "DELTA_BINARY_PACKED",
        "sample_id": "DELTA_BYTE_ARRAY",
        **dict.fromkeys(columns, "BYTE_STREAM_SPLIT"),
    }
    dictionaries = ["label", "label_name", "n_obs"]
    pq.write_table(
        table, file, compression="zstd", compression_level=19, use_dictionary=dictionaries, column_encoding=encodings
    )
    return file


def main() -> None:
    """Publish, and say what was lost by fewer bits."""
    name, folders = sys.argv[1], [Path(text) for text in sys.argv[2:]]
    file = publish(name, folders)
    exact, kept = Scores.merge([Scores.read(folder) for folder in folders]), Scores.read(file)
    for column in COLUMNS:
        order, small = (np.argsort(scores[column], kind="stable") for scores in (exact, kept))
        shared = [
            len(np.intersect1d(order[:n], small[:n])) / n for n in (round(f * len(order)) for f in (0.1, 0.3, 0.5))
        ]
        print(f"{column}: {' '.join(f'{share:.4f}' for share in shared)} of the easiest 10, 30 and 50% are the same")
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
