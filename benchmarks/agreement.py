"""Online hardness against exact, and few epochs against all, in one real training run.

`python -m benchmarks.agreement DATA RESULT.json [EPOCHS [MODEL]]`: DATA as `--data` spells it. The run is online; after
every epoch an exact pass over all of its samples writes what the online columns are compared with.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.__main__ import describe
from easycoreset import score
from easycoreset.data import data_name, open_source
from easycoreset.hardness import load_hardness
from easycoreset.scoring.agreement import compare_early, fold_columns

RUN = Path("runs/agreement")


def main() -> None:
    """Train, compare, print and write."""
    data = sys.argv[1]
    result = Path(sys.argv[2])
    epochs = int((sys.argv[3:] or ["15"])[0])
    model = (sys.argv[4:] or ["thin-resnet"])[0]
    source = open_source(data)
    everything = len(source.splits["train"])
    online = score(data=data, model=model, epochs=epochs, mode="online", agreement=everything, out=RUN)
    columns = fold_columns(RUN / "agreement", load_hardness(()))
    exact = replace(online, columns=columns)
    lines = [one.record() | {"column": one.column} for one in online.compare(exact)]
    shutil.rmtree(RUN / "trajectory")
    shutil.copytree(RUN / "agreement", RUN / "trajectory")  # the exact one, which early epochs are compared in
    early = compare_early(RUN)
    command = f"python -m benchmarks.agreement {data_name(data)}:DIR {result} {epochs} {model}"
    record = {
        **describe(),
        "command": command,
        "seed": 0,
        "data": data_name(data),
        "samples": everything,
        "model": model,
        "epochs": epochs,
        "online": lines,
        "early": early,
    }
    print(f"{'online against exact':26} Spearman  easiest 10%  30%  50%")
    for line in lines:
        shares = "  ".join(f"{share:.2f}" for share in line["overlap"].values())
        print(f"{line['column']:26} {line['spearman']:8.3f}  {shares}")
    print(f"{'exact AIGN of':26} Spearman  easiest 10%  30%  50%")
    for row in early:
        name = f"the first {row['first']} epochs" if row["first"] else f"every {row['every']}th epoch"
        shares = "  ".join(f"{row[f'overlap_{share}']:.2f}" for share in (10, 30, 50))
        print(f"{name:26} {row['spearman']:8.3f}  {shares}")
    result.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
