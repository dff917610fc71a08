"""`python -m benchmarks [NAME ...]`: run benchmarks, print their tables, write one JSON each."""

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from easycoreset.versions import versions

NAMES = ("augmentation", "contrasts", "dynamic", "exact", "naive", "online", "rows", "selection", "startup", "trades")
LONG = ("growth", "plans", "processes", "throughput")  # run only when named
FOLDER = Path("runs/bench")


def describe() -> dict:
    """Hardware, versions, threads, command and commit."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "hardware": {"cpu": cpu or platform.processor(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "seeds": [0],
        "versions": versions(),
    }


def main() -> None:
    """Run what is asked for; all but the long ones where nothing is."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["first_minutes"]:  # a protocol with options of its own
        sys.exit(importlib.import_module("benchmarks.first_minutes").main(sys.argv[2:]))
    asked = [name for name in sys.argv[1:] if name != "all"] or NAMES
    unknown = [name for name in asked if name not in NAMES + LONG]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(NAMES + LONG)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in asked:
        rows = importlib.import_module(f"benchmarks.{name}").run()
        for row in rows:
            row["holds"] = row["measured"] <= row["budget"]
            failed += not row["holds"]
            spread = f" ({row['low']:.3g} to {row['high']:.3g})" if "low" in row else ""
            verdict = "within" if row["holds"] else "ABOVE"
            print(f"{row['what']:76} {row['measured']:8.3g}{spread}  {verdict} {row['budget']:g}", flush=True)
        (FOLDER / f"{name}.json").write_text(json.dumps({**describe(), "rows": rows}, indent=1) + "\n")
    print(f"{FOLDER}/*.json; {failed} above their budget")


if __name__ == "__main__":
    main()
